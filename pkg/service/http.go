package service

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// The limits of every HTTP server. Bodies are bounded by their handlers.
const (
	headerTimeout  = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 64 << 10
)

// HTTPServer is a component that serves HTTP/1.1 and, in clear text too, HTTP/2.
type HTTPServer struct {
	name   string
	listen string
	tls    *tls.Config
	log    *slog.Logger
	server *http.Server
	end    func()
	failed chan error

	mu       sync.Mutex
	listener net.Listener
	done     chan struct{}
}

// HTTPOption changes an HTTP server.
type HTTPOption func(*HTTPServer)

// WithTLS serves over TLS.
func WithTLS(cfg *tls.Config) HTTPOption { return func(s *HTTPServer) { s.tls = cfg } }

// WithHTTPLog logs what the server has to say: handshakes that fail and handlers that panic.
func WithHTTPLog(log *slog.Logger) HTTPOption { return func(s *HTTPServer) { s.log = log } }

// WithHTTPListener serves a listener that is there already; the address is not used then.
func WithHTTPListener(l net.Listener) HTTPOption { return func(s *HTTPServer) { s.listener = l } }

// WithHTTPEnd calls a function when the server begins to stop, to end requests that would not end by
// themselves. It must not block.
func WithHTTPEnd(end func()) HTTPOption { return func(s *HTTPServer) { s.end = end } }

// HTTP returns a server for the handler. It listens once it is started.
func HTTP(name, listen string, h http.Handler, opts ...HTTPOption) *HTTPServer {
	s := &HTTPServer{name: name, listen: listen, failed: make(chan error, 1)}
	for _, opt := range opts {
		opt(s)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s.server = &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		Protocols:         &protocols,
		TLSConfig:         s.tls,
	}
	if s.end != nil {
		s.server.RegisterOnShutdown(s.end)
	}
	if s.log != nil {
		s.server.ErrorLog = slog.NewLogLogger(s.log.With(slog.String("server", name)).Handler(), slog.LevelWarn)
	}
	return s
}

// Name returns the server's name.
func (s *HTTPServer) Name() string { return s.name }

// Failed returns the channel that gets the error by which serving ended.
func (s *HTTPServer) Failed() <-chan error { return s.failed }

// Addr returns where the server listens, or nil before it was started.
func (s *HTTPServer) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Start listens and serves. Requests carry the values of the context, not its end.
func (s *HTTPServer) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done != nil {
		return errors.New("the server was started before")
	}
	if s.listener == nil {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", s.listen)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", s.listen, err)
		}
		s.listener = l
	}
	base := context.WithoutCancel(ctx)
	s.server.BaseContext = func(net.Listener) context.Context { return base }
	s.done = make(chan struct{})
	go s.serve(s.listener, s.done)
	return nil
}

// serve serves until the server is shut down.
func (s *HTTPServer) serve(l net.Listener, done chan struct{}) {
	defer close(done)
	var err error
	if s.tls != nil {
		err = s.server.ServeTLS(l, "", "")
	} else {
		err = s.server.Serve(l)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		s.failed <- fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
}

// Stop lets requests end, within the context, and then ends them.
func (s *HTTPServer) Stop(ctx context.Context) error {
	s.mu.Lock()
	done, l := s.done, s.listener
	s.mu.Unlock()
	if done == nil {
		if l != nil {
			_ = l.Close() // a listener that was handed over is ours to close
		}
		return nil
	}
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = fmt.Errorf("requests were still running: %w", err)
		_ = s.server.Close()
	}
	<-done
	return err
}
