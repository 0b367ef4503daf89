package decide

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/klauspost/compress/gzip"
)

const (
	maxWireBody     = 1 << 20 // as sent
	maxInflatedBody = 8 << 20 // after gunzip
	keptBuffer      = 64 << 10
)

// errTooLarge is a body above one of the limits.
var errTooLarge = errors.New("the request body is too large")

// Why a body could not be brought to JSON.
var (
	errEmptyBody       = errors.New("the request body is empty")
	errBodyRead        = errors.New("the request body ended early")
	errCompression     = errors.New("unsupported compression")
	errFormCompression = errors.New("compression is not supported for form bodies")
	errContentType     = errors.New("unsupported content type")
	errGzip            = errors.New("invalid gzip data")
	errLZ64            = errors.New("invalid lz64 data")
	errFormJSON        = errors.New("invalid JSON structure")
)

// body is the memory that one request's body passes through. It is pooled.
type body struct {
	room     *room
	wire     bytes.Buffer
	inflated bytes.Buffer
	reader   io.LimitedReader
	gzip     gzip.Reader

	isLarge, isInflated bool // places in the room that it takes
}

func (b *body) reset() {
	b.room.leave(b)
	if b.wire.Cap() > keptBuffer {
		b.wire = bytes.Buffer{}
	}
	if b.inflated.Cap() > keptBuffer {
		b.inflated = bytes.Buffer{}
	}
	b.wire.Reset()
	b.inflated.Reset()
	b.reader.R = nil
}

// read brings the body to memory as it was sent. Memory grows with what has arrived, whatever Content-Length promises.
func (b *body) read(r *http.Request) error {
	if r.ContentLength > maxWireBody {
		return errTooLarge
	}
	if n := r.ContentLength; n > 0 && n < keptBuffer {
		b.wire.Grow(int(n) + bytes.MinRead)
	}
	b.reader = io.LimitedReader{R: r.Body, N: keptBuffer}
	_, err := b.wire.ReadFrom(&b.reader)
	if err == nil && b.reader.N == 0 {
		if !b.room.enter(b) {
			return errCrowded
		}
		b.reader.N = maxWireBody + 1 - keptBuffer
		_, err = b.wire.ReadFrom(&b.reader)
	}
	switch {
	case b.wire.Len() > maxWireBody:
		return errTooLarge
	case err != nil:
		return errBodyRead
	}
	return nil
}

// decodeInto undoes the wire encodings and decodes the request. The order of attempts is that of PostHog: some SDKs do not say what they send.
func (b *body) decodeInto(req *request, r *http.Request, compression string, legacy bool) error {
	if b.wire.Len() == 0 {
		return errEmptyBody
	}
	switch media := mediaType(r.Header); {
	case media == "application/x-www-form-urlencoded", legacy && !isBodyType(media):
		return b.decodeForm(req, lossy(b.wire.Bytes()), compression, legacy)
	case !isBodyType(media):
		return errContentType
	}
	data := b.wire.Bytes()
	encoded := containsGzip(r.Header["Content-Encoding"])
	switch {
	case compression == "lz64" && legacy:
		return b.decodeLZ64(req, lossy(data), legacy)
	case compression == "gzip", compression == "gzip-js", compression == "" && (encoded || isGzip(data)):
		var err error
		if data, err = b.inflate(data); err != nil {
			return err
		}
	case compression != "" && compression != "base64":
		return errCompression
	}
	return decodeText(req, lossy(data), legacy)
}

// decodeText reads JSON, or base64 of JSON.
func decodeText(req *request, text string, legacy bool) error {
	err := req.decode(text, legacy)
	if err == nil || !errors.Is(err, errJSONSyntax) {
		return err
	}
	decoded, errBase64 := decodeBase64(percentDecode(text))
	if errBase64 != nil {
		return err
	}
	req.reset()
	return req.decode(lossy(decoded), legacy)
}

// decodeForm reads data=<base64 of JSON>, all of it percent-encoded; the name is optional.
func (b *body) decodeForm(req *request, text, compression string, legacy bool) error {
	if compression != "" && compression != "base64" && !legacy {
		return errFormCompression
	}
	text = percentDecode(text)
	fields := ""
	if rest, ok := strings.CutPrefix(text, "data="); ok {
		text, fields, _ = strings.Cut(rest, "&")
		text, _, _ = strings.Cut(text, "=")
	}
	if legacy && compression == "lz64" {
		return b.decodeLZ64(req, text, legacy)
	}
	decoded, err := decodeBase64(text)
	if err != nil {
		return err
	}
	if legacy && isGzip(decoded) {
		if decoded, err = b.inflate(decoded); err != nil {
			return err
		}
	}
	if err := req.decode(lossy(decoded), legacy); err != nil {
		return fmt.Errorf("%w: %w", errFormJSON, err)
	}
	if token := formToken(fields); legacy && token != "" {
		req.token = token
	}
	return nil
}

// formToken is the token beside the data in a form.
func formToken(fields string) string {
	for _, name := range []string{"api_key=", "token="} {
		for field := range strings.SplitSeq(fields, "&") {
			if token, ok := strings.CutPrefix(field, name); ok {
				return strings.TrimSpace(token)
			}
		}
	}
	return ""
}

func (b *body) decodeLZ64(req *request, text string, legacy bool) error {
	b.room.await(b)
	decoded, err := lzDecodeBase64(percentDecode(text))
	if err != nil {
		return err
	}
	return req.decode(decoded, legacy)
}

func (b *body) inflate(data []byte) ([]byte, error) {
	if err := b.gzip.Reset(bytes.NewReader(data)); err != nil {
		return nil, errGzip
	}
	b.inflated.Reset()
	declared := declaredSize(data)
	b.inflated.Grow(min(declared, keptBuffer) + bytes.MinRead)
	b.reader = io.LimitedReader{R: &b.gzip, N: keptBuffer}
	_, err := b.inflated.ReadFrom(&b.reader)
	if err == nil && b.reader.N == 0 {
		b.room.await(b)
		b.inflated.Grow(max(0, declared-keptBuffer) + bytes.MinRead)
		b.reader.N = maxInflatedBody + 1 - keptBuffer
		_, err = b.inflated.ReadFrom(&b.reader)
	}
	switch {
	case b.inflated.Len() > maxInflatedBody:
		return nil, errTooLarge
	case err != nil:
		return nil, errGzip
	}
	return b.inflated.Bytes(), nil
}

// declaredSize is how much gzip data says it inflates to, in its last four bytes, so that a large body is not copied from buffer to buffer. Who lies about it
// gains nothing: it is never more than the limit, nor than deflate could make of the data.
func declaredSize(data []byte) int {
	const trailer, most = 4, 1032 // RFC 1952, 2.3.1, and zlib's "maximum compression factor"
	if len(data) < trailer {
		return 0
	}
	declared := int(binary.LittleEndian.Uint32(data[len(data)-trailer:]))
	return min(declared, maxInflatedBody+1, most*len(data))
}

// mediaType is the content type without its parameters.
func mediaType(h http.Header) string {
	values := h["Content-Type"]
	if len(values) == 0 {
		return ""
	}
	media, _, _ := strings.Cut(values[0], ";")
	return strings.ToLower(strings.TrimSpace(media))
}

func isBodyType(media string) bool {
	return media == "" || media == "application/json" || media == "text/plain"
}

func containsGzip(values []string) bool {
	for _, v := range values {
		if strings.Contains(v, "gzip") {
			return true
		}
	}
	return false
}

func isGzip(data []byte) bool {
	return len(data) > 2 && data[0] == 0x1f && data[1] == 0x8b
}

// percentDecode decodes %XX and leaves everything else, malformed escapes too, as it is: "+" is a letter of base64.
func percentDecode(text string) string {
	if !strings.Contains(text, "%") {
		return text
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] == '%' {
			hex := scanner{text: "00" + text[i+1:min(i+3, len(text))]}
			if r, ok := hex.hex4(); ok {
				out = append(out, byte(r))
				i += 2
				continue
			}
		}
		out = append(out, text[i])
	}
	return string(out)
}

// decodeBase64 decodes standard base64 with blanks in it and with any padding or none.
func decodeBase64(text string) ([]byte, error) {
	text = strings.Map(func(r rune) rune {
		if r == ' ' || r == '\n' || r == '\r' || r == '\t' {
			return -1
		}
		return r
	}, text)
	data, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(data) == 0 {
		return nil, errJSONSyntax
	}
	return data, nil
}

// lossy is the data as text; every invalid sequence becomes U+FFFD, the longest prefix of a character counting as one, as Rust does it.
func lossy(data []byte) string {
	if utf8.Valid(data) {
		return string(data)
	}
	out := make([]byte, 0, len(data)+16)
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		if r != utf8.RuneError || size > 1 {
			out, data = append(out, data[:size]...), data[size:]
			continue
		}
		out, data = append(out, "\ufffd"...), data[invalidLength(data):]
	}
	return string(out)
}

// invalidLength is the length of the invalid sequence that data begins with: of what could still have become a character, or 1.
func invalidLength(data []byte) int {
	for n := min(3, len(data)); n > 1; n-- {
		if !utf8.FullRune(data[:n]) {
			return n
		}
	}
	return 1
}
