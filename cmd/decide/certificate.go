package main

import (
	"crypto/tls"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
)

// reloading is a certificate that is read again when its file changes, looked at once a second at most. A file that cannot be read leaves the old
// certificate in use: half a renewal must not end the service.
type reloading struct {
	certFile, keyFile string
	log               *zap.Logger

	mu      sync.Mutex
	current *tls.Certificate
	changed time.Time // modification time of what was read
	looked  time.Time
	problem string // the last one, which has been logged
}

func (r *reloading) get(now time.Time) (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != nil && now.Sub(r.looked) < time.Second {
		return r.current, nil
	}
	r.looked = now
	info, err := os.Stat(r.certFile)
	if err == nil && r.current != nil && info.ModTime().Equal(r.changed) {
		return r.current, nil
	}
	if err == nil {
		var loaded tls.Certificate
		if loaded, err = tls.LoadX509KeyPair(r.certFile, r.keyFile); err == nil {
			r.current, r.changed = &loaded, info.ModTime()
		}
	}
	if r.current == nil {
		return nil, err
	}
	r.report(err)
	return r.current, nil
}

// report tells once that a new certificate cannot be used, long before the old one expires.
func (r *reloading) report(err error) {
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	if problem != r.problem && err != nil {
		r.log.Warn("the new certificate cannot be used, the old one stays", zap.String("setting", "--tls-cert"), zap.Error(err))
	}
	r.problem = problem
}
