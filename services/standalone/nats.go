package standalone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// natsReady bounds the start of the server, which reads every stream.
	natsReady = time.Minute
	// natsMaxPayload leaves room for the largest event with its envelope.
	natsMaxPayload = 4 << 20
	// natsMaxMemory bounds streams in memory; there are none.
	natsMaxMemory = 64 << 20
)

// natsServer is the embedded NATS server. It listens nowhere: connections are made in the process.
type natsServer struct {
	server *server.Server
	failed chan error
	wg     sync.WaitGroup

	mu       sync.Mutex
	stopping bool
}

// newNATS makes a server on its store in dir; Start runs it.
func newNATS(dir string, cfg NATSConfig, log *slog.Logger) (*natsServer, error) {
	s, err := server.NewServer(&server.Options{
		ServerName:         "postrider",
		DontListen:         true,
		JetStream:          true,
		StoreDir:           dir,
		SyncInterval:       cfg.SyncInterval,
		MaxPayload:         natsMaxPayload,
		JetStreamMaxMemory: natsMaxMemory,
		JetStreamMaxStore:  int64(cfg.MaxStore),
		NoSigs:             true, // signals are the process's
	})
	if err != nil {
		return nil, fmt.Errorf("set up the NATS server: %w", err)
	}
	s.SetLoggerV2(&natsLog{log: log}, false, false, false)
	return &natsServer{server: s, failed: make(chan error, 1)}, nil
}

// Name returns the component's name.
func (*natsServer) Name() string { return "nats" }

// watch returns an error when the server ends by itself.
func (n *natsServer) watch(ctx context.Context) error {
	select {
	case err := <-n.failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// Start runs the server and returns when it takes connections and has read its streams.
func (n *natsServer) Start(context.Context) error {
	n.server.Start()
	if !n.server.ReadyForConnections(natsReady) {
		return fmt.Errorf("the NATS server was not ready after %s", natsReady)
	}
	if err := n.ready(); err != nil {
		return err
	}
	n.wg.Go(func() {
		n.server.WaitForShutdown()
		n.mu.Lock()
		defer n.mu.Unlock()
		if !n.stopping {
			n.failed <- errors.New("the NATS server ended")
		}
	})
	return nil
}

// Stop ends the server: what is stored is on disk when it returns.
func (n *natsServer) Stop(context.Context) error {
	n.mu.Lock()
	n.stopping = true
	n.mu.Unlock()
	n.server.Shutdown()
	n.server.WaitForShutdown()
	n.wg.Wait()
	return nil
}

// ready says why the server cannot store, or nil: it gives up JetStream when its disk fails.
func (n *natsServer) ready() error {
	if !n.server.JetStreamEnabled() {
		return errors.New("JetStream does not run: see the log of the NATS server")
	}
	return nil
}

// natsLog hands what the server says to our log. What it notices of itself at every start is for
// those who look closer.
type natsLog struct{ log *slog.Logger }

func (l *natsLog) say(level slog.Level, format string, args []any) {
	l.log.Log(context.Background(), level, "nats", "text", fmt.Sprintf(format, args...))
}

// Noticef logs at debug.
func (l *natsLog) Noticef(format string, v ...any) { l.say(slog.LevelDebug, format, v) }

// Warnf logs at warn.
func (l *natsLog) Warnf(format string, v ...any) { l.say(slog.LevelWarn, format, v) }

// Fatalf logs at error; if the server ends by itself, watch tells.
func (l *natsLog) Fatalf(format string, v ...any) { l.say(slog.LevelError, format, v) }

// Errorf logs at error.
func (l *natsLog) Errorf(format string, v ...any) { l.say(slog.LevelError, format, v) }

// Debugf is never asked for.
func (l *natsLog) Debugf(string, ...any) {}

// Tracef is never asked for.
func (l *natsLog) Tracef(string, ...any) {}
