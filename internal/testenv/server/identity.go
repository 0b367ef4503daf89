package server

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

const (
	maxControlFile = 512 // bytes of pg_control that may count: it must fit a disk sector
	walIdentity    = 24  // offset of the identifier in the long header that starts a WAL segment
)

// renewIdentity gives a stopped server another system identifier: in pg_control, whose checksum follows, and in the segments of WAL, which name their
// server in their first header. initdb makes identifiers of the time in seconds and some noise, and so does this.
func renewIdentity(dataDir string) error {
	identity := uint64(time.Now().Unix())<<32 | uint64(rand.Uint32())
	control := filepath.Join(dataDir, "global", "pg_control")
	data, err := os.ReadFile(control)
	if err != nil {
		return err
	}
	at, err := checksumOffset(data)
	if err != nil {
		return err
	}
	binary.NativeEndian.PutUint64(data, identity)
	binary.NativeEndian.PutUint32(data[at:], crc32.Checksum(data[:at], castagnoli))
	if err := os.WriteFile(control, data, 0o600); err != nil {
		return err
	}
	segments, err := filepath.Glob(filepath.Join(dataDir, "pg_wal", "0*"))
	if err != nil {
		return err
	}
	for _, segment := range segments {
		if err := patch(segment, walIdentity, identity); err != nil {
			return err
		}
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksumOffset finds the checksum of pg_control: the only word that is the CRC of all before it. Where it stands depends on the version.
func checksumOffset(data []byte) (int, error) {
	for at := 8; at+4 <= min(len(data), maxControlFile); at += 4 {
		if binary.NativeEndian.Uint32(data[at:]) == crc32.Checksum(data[:at], castagnoli) {
			return at, nil
		}
	}
	return 0, errors.New("pg_control holds no checksum of itself")
}

func patch(path string, at int64, value uint64) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(binary.NativeEndian.AppendUint64(nil, value), at)
	return errors.Join(err, file.Close())
}
