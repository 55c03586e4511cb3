// Package redisconn opens clients of Redis: one server, a cluster, or a master behind sentinels.
// It owns no key. Redis is an index and a cache, so a client opens whether or not Redis is there,
// and its commands fail fast when it is not: what they are for goes on without them.
package redisconn

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

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/postrider/postrider/pkg/conf"
)

// Config says which Redis to use and how.
type Config struct {
	URL      string        `conf:"url" help:"Redis server: redis://host:6379/0, or rediss:// for TLS; empty for none"`
	Nodes    []string      `conf:"nodes" help:"further nodes of a cluster, or further sentinels, as host:port"`
	Cluster  bool          `conf:"cluster" help:"the server is a node of a Redis cluster"`
	Sentinel string        `conf:"sentinel" help:"name of the master to ask the sentinels for; the URL then names a sentinel"`
	Username string        `conf:"username" help:"user, in place of the one in the URL"`
	Password conf.Secret   `conf:"password" help:"password, in place of the one in the URL; file:/path reads a file"`
	CAFile   string        `conf:"ca-file" help:"PEM file of the CAs that the server's certificate must come from"`
	PoolSize int           `conf:"pool-size" help:"connections at most, to each node"`
	Dial     time.Duration `conf:"dial-timeout" help:"time limit for a new connection"`
	Timeout  time.Duration `conf:"timeout" help:"time limit for a command, and for a connection of the pool to become free"`
}

// Default returns the configuration of no Redis; a URL is all it needs.
func Default() Config {
	return Config{PoolSize: 32, Dial: time.Second, Timeout: time.Second}
}

// Validate returns every fault. No URL is no fault here: a service that needs Redis says so itself.
func (c Config) Validate() error {
	return errors.Join(
		validateURL(c.URL),
		conf.Rule(!c.Cluster || c.Sentinel == "", "sentinel", "must not be set together with cluster"),
		conf.Rule(len(c.Nodes) == 0 || c.Cluster || c.Sentinel != "", "nodes", "must be set only with cluster or sentinel"),
		conf.Between("pool-size", c.PoolSize, 1, 10_000),
		conf.Positive("dial-timeout", c.Dial),
		conf.Positive("timeout", c.Timeout),
	)
}

// validateURL checks the URL; its fault does not repeat it, for it may hold a password.
func validateURL(u string) error {
	if u == "" {
		return nil
	}
	_, err := redis.ParseURL(u)
	return conf.Rule(err == nil, "url", "must be a URL such as redis://host:6379/0, rediss://host:6380 or unix:///path")
}

// Client is a client of Redis.
type Client struct {
	universal redis.UniversalClient
}

// Open returns a client. It does not connect: commands do, and fail while Redis is away. The log
// says when Redis goes away and when it comes back.
func Open(cfg Config, log *slog.Logger) (*Client, error) {
	if err := errors.Join(conf.NotEmpty("url", cfg.URL), cfg.Validate()); err != nil {
		return nil, fmt.Errorf("open Redis: %w", err)
	}
	opts, err := options(cfg)
	if err != nil {
		return nil, fmt.Errorf("open Redis: %w", err)
	}
	log.Info("using Redis", slog.Any("addresses", opts.Addrs), slog.Bool("cluster", opts.IsClusterMode), slog.Bool("tls", opts.TLSConfig != nil))
	// The library has one logger per process and writes a line for every refused connection.
	redis.SetLogger(libraryLog{log: log})
	if cfg.Cluster {
		return &Client{universal: openCluster(opts.Cluster(), log)}, nil
	}
	universal := redis.NewUniversalClient(opts)
	universal.AddHook(&watch{log: log})
	return &Client{universal: universal}, nil
}

// options returns what go-redis wants to know.
func options(cfg Config) (*redis.UniversalOptions, error) {
	parsed, err := redis.ParseURL(cfg.URL)
	if err != nil {
		return nil, errors.New("the URL cannot be read") // the error of the parser holds the URL
	}
	opts := &redis.UniversalOptions{
		Addrs:         append([]string{parsed.Addr}, cfg.Nodes...),
		ClientName:    "postrider",
		DB:            parsed.DB,
		Username:      parsed.Username,
		Password:      parsed.Password,
		TLSConfig:     parsed.TLSConfig,
		IsClusterMode: cfg.Cluster,
		MasterName:    cfg.Sentinel,
		PoolSize:      cfg.PoolSize,
		DialTimeout:   cfg.Dial,
		ReadTimeout:   cfg.Timeout,
		WriteTimeout:  cfg.Timeout,
		PoolTimeout:   cfg.Timeout,
		// A command is sent at most once and a connection tried once: scripts that claim are not
		// to be run twice behind their caller's back, and nobody waits for a Redis that is away.
		MaxRetries:               -1,
		DialerRetries:            1,
		ContextTimeoutEnabled:    true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if parsed.Network == "unix" {
		opts.Dialer = unixDialer(parsed.Addr)
	}
	if cfg.Username != "" {
		opts.Username = cfg.Username
	}
	if cfg.Password != "" {
		opts.Password = cfg.Password.Reveal()
	}
	if err := trust(opts, cfg.CAFile); err != nil {
		return nil, err
	}
	return opts, nil
}

// trust makes a TLS connection accept only certificates from the file's CAs. The file is read for
// each connection, so that CAs that change, as in a mounted secret, are those of the next one.
func trust(opts *redis.UniversalOptions, file string) error {
	if file == "" {
		return nil
	}
	if opts.TLSConfig == nil {
		opts.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	roots := &roots{file: file}
	if _, err := roots.get(); err != nil {
		return err
	}
	base := opts.TLSConfig
	opts.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		pool, err := roots.get()
		if err != nil {
			return nil, err
		}
		cfg := base.Clone()
		cfg.RootCAs = pool
		d := tls.Dialer{NetDialer: &net.Dialer{Timeout: opts.DialTimeout}, Config: cfg}
		return d.DialContext(ctx, network, addr)
	}
	return nil
}

// roots is the CAs of a file. While it cannot be read, those that were read last stand.
type roots struct {
	file string

	mu   sync.Mutex
	last *x509.CertPool
}

func (r *roots) get() (*x509.CertPool, error) {
	pool, err := readPool(r.file)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && r.last == nil {
		return nil, err
	}
	if err == nil {
		r.last = pool
	}
	return r.last, nil
}

func readPool(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file) //nolint:gosec // the path is the operator's own
	if err != nil {
		return nil, fmt.Errorf("read the CA file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("the CA file holds no certificate")
	}
	return pool, nil
}

// Universal returns the client of go-redis, for the packages that own a keyspace.
func (c *Client) Universal() redis.UniversalClient { return c.universal }

// Ping asks Redis for a sign of life.
func (c *Client) Ping(ctx context.Context) error {
	if err := c.universal.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("ping Redis: %w", err)
	}
	return nil
}

// Close closes every connection.
func (c *Client) Close() error {
	if err := c.universal.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
		return fmt.Errorf("close Redis: %w", err)
	}
	return nil
}
