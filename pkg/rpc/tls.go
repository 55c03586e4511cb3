package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
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

// clientTLS returns the credentials of a client. Its certificate and its CAs may change on disk: what
// is there is used from the next handshakes on.
func clientTLS(cfg ClientConfig) (credentials.TransportCredentials, error) {
	current := &reloaded[*tls.Config]{now: time.Now, load: func() (*tls.Config, error) { return loadClientTLS(cfg) }}
	first, err := current.get()
	if err != nil {
		return nil, err
	}
	return &reloading{TransportCredentials: credentials.NewTLS(first), current: current}, nil
}

// loadClientTLS reads a client's files.
func loadClientTLS(cfg ClientConfig) (*tls.Config, error) {
	pool, err := readPool(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the server's CAs: %w", err)
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: cfg.ServerName}
	if cfg.CertFile == "" {
		return out, nil
	}
	cert, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read the client's certificate: %w", err)
	}
	out.Certificates = []tls.Certificate{cert}
	return out, nil
}

// reloading is TLS with the configuration of the moment: crypto/tls asks a client for another
// certificate at each handshake, but not for other CAs.
type reloading struct {
	credentials.TransportCredentials // what was first read: its answers but to handshakes do not change

	current *reloaded[*tls.Config]
}

// ClientHandshake is a handshake with what the files hold now.
func (r *reloading) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	cfg, err := r.current.get()
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(cfg).ClientHandshake(ctx, authority, conn)
}

// Clone returns credentials over the same files.
func (r *reloading) Clone() credentials.TransportCredentials {
	return &reloading{TransportCredentials: r.TransportCredentials.Clone(), current: r.current}
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
