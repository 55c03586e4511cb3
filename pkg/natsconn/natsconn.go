// Package natsconn opens connections to NATS and keeps them: they reconnect for ever, with jitter,
// and say so in the log. It owns no stream and no subject. A connection that is down loses what
// was published on core NATS; JetStream's publish-acks are what callers rely on.
package natsconn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/postrider/postrider/pkg/conf"
)

// Config says which NATS servers to use and how.
type Config struct {
	URL            string        `conf:"url" help:"NATS servers, separated by commas"`
	CredsFile      string        `conf:"creds-file" help:"file with the NATS user's JWT and seed"`
	NKeyFile       string        `conf:"nkey-file" help:"file with the NATS user's nkey seed, in place of credentials"`
	CAFile         string        `conf:"ca-file" help:"PEM file of the CAs that the servers' certificates must come from"`
	CertFile       string        `conf:"cert-file" help:"PEM file of the client's certificate"`
	KeyFile        string        `conf:"key-file" help:"PEM file of the client's private key"`
	ConnectTimeout time.Duration `conf:"connect-timeout" help:"how long a start waits for NATS before it gives up"`
	ReconnectWait  time.Duration `conf:"reconnect-wait" help:"pause between attempts to reconnect; as much again is added at random"`
	PingInterval   time.Duration `conf:"ping-interval" help:"how often a quiet connection is probed; two silent probes close it"`
}

// Default returns the configuration of a server on this host.
func Default() Config {
	return Config{
		URL:            nats.DefaultURL,
		ConnectTimeout: 30 * time.Second,
		ReconnectWait:  250 * time.Millisecond,
		PingInterval:   10 * time.Second,
	}
}

// Validate returns every fault.
func (c Config) Validate() error {
	return errors.Join(
		validateURL(c.URL),
		conf.Rule(c.CredsFile == "" || c.NKeyFile == "", "nkey-file", "must not be set together with creds-file"),
		conf.Rule((c.CertFile == "") == (c.KeyFile == ""), "key-file", "must be set exactly when cert-file is"),
		conf.Positive("connect-timeout", c.ConnectTimeout),
		conf.Positive("reconnect-wait", c.ReconnectWait),
		conf.Positive("ping-interval", c.PingInterval),
	)
}

// validateURL checks each server's URL. Its fault names none of them: they may hold a password.
func validateURL(list string) error {
	for server := range strings.SplitSeq(list, ",") {
		u, err := url.Parse(strings.TrimSpace(server))
		if err != nil || u.Host == "" {
			return conf.Rule(false, "url", "must be URLs such as nats://host:4222, separated by commas")
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return conf.Rule(false, "url", "must use the scheme nats, tls, ws or wss")
		}
	}
	return nil
}

// warnEvery is how often it is said that the servers cannot be reached.
const warnEvery = 5 * time.Second

// Connect opens a connection under a name that the server's monitoring shows. While the servers
// cannot be reached it tries again until ConnectTimeout has passed or ctx has ended: in a cluster
// everything starts at once. What waiting cannot mend, such as a refused credential, fails at once.
func Connect(ctx context.Context, cfg Config, name string, log *slog.Logger) (*nats.Conn, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	opts := append(options(name, cfg.ReconnectWait, cfg.PingInterval, log), inbox(name), nats.Timeout(min(cfg.ConnectTimeout, 5*time.Second)))
	secured, err := security(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	opts = append(opts, secured...)

	deadline := time.NewTimer(cfg.ConnectTimeout)
	defer deadline.Stop()
	var warned time.Time
	for {
		nc, err := nats.Connect(cfg.URL, opts...)
		if err == nil {
			return nc, nil
		}
		if !passing(err) {
			return nil, fmt.Errorf("connect to NATS: %w", err)
		}
		if time.Since(warned) > warnEvery {
			log.WarnContext(ctx, "NATS cannot be reached yet", slog.Any("error", err))
			warned = time.Now()
		}
		pause := time.NewTimer(cfg.ReconnectWait)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, fmt.Errorf("connect to NATS: %w: %w", ctx.Err(), err)
		case <-deadline.C:
			pause.Stop()
			return nil, fmt.Errorf("connect to NATS within %s: %w", cfg.ConnectTimeout, err)
		}
	}
}

// inbox gives a service's replies subjects of their own, _INBOX.<service>.>, where service is the
// name up to the first slash: a server that knows its users lets each see its own replies alone.
func inbox(name string) nats.Option {
	service, _, _ := strings.Cut(name, "/")
	return nats.CustomInboxPrefix("_INBOX." + service)
}

// passing reports whether an error of the first connect may go away by itself.
func passing(err error) bool {
	return !slices.ContainsFunc([]error{
		nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired,
		nats.ErrSecureConnRequired, nats.ErrSecureConnWanted, nats.ErrNkeysNotSupported,
	}, func(lasting error) bool { return errors.Is(err, lasting) })
}

// InProcess opens a connection to a server in the same process, over memory.
func InProcess(server nats.InProcessConnProvider, name string, log *slog.Logger) (*nats.Conn, error) {
	d := Default()
	nc, err := nats.Connect("", append(options(name, d.ReconnectWait, d.PingInterval, log), nats.InProcessServer(server))...)
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	return nc, nil
}

// Drain ends a connection in order: subscriptions end, what is buffered is sent, then it closes.
// It returns when the connection is closed; when the context ends first it closes it at once.
func Drain(ctx context.Context, nc *nats.Conn) error {
	closed := nc.StatusChanged(nats.CLOSED)
	defer nc.RemoveStatusListener(closed)
	if nc.IsClosed() {
		return nil
	}
	if err := nc.Drain(); err != nil {
		nc.Close()
		if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrConnectionReconnecting) {
			return nil // nothing to drain
		}
		return fmt.Errorf("drain the NATS connection: %w", err)
	}
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		nc.Close()
		return fmt.Errorf("drain the NATS connection: %w", context.Cause(ctx))
	}
}

// options returns what every connection has.
func options(name string, wait, ping time.Duration, log *slog.Logger) []nats.Option {
	return []nats.Option{
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(wait),
		nats.ReconnectJitter(wait, wait),
		nats.IgnoreAuthErrorAbort(), // a server that restarts with stale accounts must not end a process
		nats.PingInterval(ping),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // without one it was closed on purpose, which the other handler says
				log.Warn("NATS disconnected", slog.Any("error", err))
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Info("NATS reconnected", slog.String("server", nc.ConnectedServerName()))
		}),
		nats.ClosedHandler(func(nc *nats.Conn) {
			log.Info("NATS connection closed", slog.Any("error", nc.LastError()))
		}),
		nats.LameDuckModeHandler(func(nc *nats.Conn) {
			log.Info("NATS server is shutting down", slog.String("server", nc.ConnectedServerName()))
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			log.Error("NATS reported an error", slog.String("subject", subject), slog.Any("error", err))
		}),
	}
}

// security returns the options for credentials and TLS.
func security(cfg Config) ([]nats.Option, error) {
	// The library reads these files when it connects. One that is missing does not appear by waiting.
	for _, path := range []string{cfg.CredsFile, cfg.NKeyFile, cfg.CAFile, cfg.CertFile, cfg.KeyFile} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			return nil, err
		}
	}
	var opts []nats.Option
	if cfg.CredsFile != "" {
		opts = append(opts, nats.UserCredentials(cfg.CredsFile))
	}
	if cfg.NKeyFile != "" {
		opt, err := nats.NkeyOptionFromSeed(cfg.NKeyFile)
		if err != nil {
			return nil, fmt.Errorf("read the nkey: %w", err)
		}
		opts = append(opts, opt)
	}
	if cfg.CAFile != "" {
		opts = append(opts, nats.RootCAs(cfg.CAFile))
	}
	if cfg.CertFile != "" {
		opts = append(opts, nats.ClientCert(cfg.CertFile, cfg.KeyFile))
	}
	return opts, nil
}
