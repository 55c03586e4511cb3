package rpc

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// reloadAfter is how old a certificate read from a file may grow before a handshake reads it anew.
const reloadAfter = 10 * time.Second

// serverTLS returns the TLS configuration of a server. Certificates and CAs that change on disk,
// as mounted secrets do, are used from the next handshakes on.
func serverTLS(cfg ServerConfig, log *slog.Logger) (*tls.Config, error) {
	current := &reloaded[*tls.Config]{now: time.Now, log: log, load: func() (*tls.Config, error) { return loadServerTLS(cfg) }}
	first, err := current.get()
	if err != nil {
		return nil, err
	}
	outer := first.Clone()
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return current.get() }
	return outer, nil
}

// loadServerTLS reads a server's files.
func loadServerTLS(cfg ServerConfig) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read the server's certificate: %w", err)
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{cert}}
	if cfg.ClientCAFile != "" {
		if out.ClientCAs, err = readPool(cfg.ClientCAFile); err != nil {
			return nil, fmt.Errorf("read the clients' CAs: %w", err)
		}
		out.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return out, nil
}

// clientTLS returns the TLS configuration of a client. Its certificate may change on disk; its CAs
// are read once.
func clientTLS(cfg ClientConfig) (*tls.Config, error) {
	pool, err := readPool(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the server's CAs: %w", err)
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: cfg.ServerName}
	if cfg.CertFile == "" {
		return out, nil
	}
	current := &reloaded[*tls.Certificate]{now: time.Now, load: func() (*tls.Certificate, error) {
		cert, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read the client's certificate: %w", err)
		}
		return &cert, nil
	}}
	if _, err := current.get(); err != nil {
		return nil, err
	}
	out.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return current.get() }
	return out, nil
}

// readPool reads a file of CAs.
func readPool(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file) //nolint:gosec // the path is the operator's own
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("the file holds no certificate")
	}
	return pool, nil
}

// reloaded is a value that is read from files, and again when it is used after it has grown old.
// While the files cannot be read the last value stands.
type reloaded[T any] struct {
	now  func() time.Time
	load func() (T, error)
	log  *slog.Logger // may be nil

	mu    sync.Mutex
	value T
	read  time.Time // zero before the first success
}

// get returns the value.
func (r *reloaded[T]) get() (T, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if !r.read.IsZero() && now.Sub(r.read) < reloadAfter {
		return r.value, nil
	}
	value, err := r.load()
	if err != nil {
		if r.read.IsZero() {
			return value, err
		}
		if r.log != nil {
			r.log.Warn("using the old certificate", slog.Any("error", err))
		}
		r.read = now
		return r.value, nil
	}
	r.value, r.read = value, now
	return value, nil
}
