package standalone

import (
	"errors"
	"path/filepath"
	"time"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/redisconn"
	"github.com/postrider/postrider/pkg/rpc"
	"github.com/postrider/postrider/pkg/service"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/telemetry"
	"github.com/postrider/postrider/services/api"
	"github.com/postrider/postrider/services/dispatcher"
	"github.com/postrider/postrider/services/ingest"
	"github.com/postrider/postrider/services/router"
	"github.com/postrider/postrider/services/scheduler"
)

// Config is everything that the one process can be told. The stanzas of the services are their own.
type Config struct {
	DataDir       string              `conf:"data-dir" help:"folder of everything that is kept"`
	GRPC          rpc.ServerConfig    `conf:"grpc"`
	HTTPListen    string              `conf:"http-listen" help:"where REST and /v1/events listen"`
	Admin         service.AdminConfig `conf:""`
	AdminKey      conf.Secret         `conf:"admin-key" help:"credential that may do everything; empty: generated and kept in the data folder"`
	EncryptionKey conf.Secret         `conf:"encryption-key" help:"keyset that encrypts webhooks' secrets at rest; file:/path reads a file; empty: generated and kept in the data folder"`
	Redis         redisconn.Config    `conf:"redis"`
	Telemetry     telemetry.Config    `conf:"telemetry"`

	Ingest     ingest.Config     `conf:"ingest"`
	Router     router.Config     `conf:"router"`
	Scheduler  scheduler.Config  `conf:"scheduler"`
	Dispatcher dispatcher.Config `conf:"dispatcher"`
	API        api.Config        `conf:"api"`

	NATS        NATSConfig              `conf:"nats"`
	Streams     stream.Config           `conf:"streams"`
	Events      eventstream.Config      `conf:"events"`
	Deliveries  deliverystream.Config   `conf:"deliveries"`
	Retries     retrystream.Config      `conf:"retries"`
	Journal     journal.Config          `conf:"journal"`
	DeadLetters deadletterstream.Config `conf:"dead-letters"`
}

// NATSConfig is what can be said of the embedded NATS server.
type NATSConfig struct {
	MaxStore     conf.Bytes    `conf:"max-store" help:"most bytes that the streams may take on disk; 0 lets the server take three quarters of what is free"`
	SyncInterval time.Duration `conf:"sync-interval" help:"how often the streams are synced to disk: what a power cut can take, not what a killed process can"`
}

// The names below the data folder. AdminKeyFile is where a program on the same machine finds the
// admin key.
const (
	DefaultDataDir = "var"
	AdminKeyFile   = "admin.key"

	encryptionKeyFile = "encryption.key"
	lockFile          = "lock"
	natsDir           = "nats"
)

// Default is a development machine: everything listens on loopback, and webhooks may be there too.
func Default() Config {
	c := Config{
		DataDir:    DefaultDataDir,
		GRPC:       rpc.ServerConfig{Listen: "127.0.0.1:9090"},
		HTTPListen: "127.0.0.1:8080",
		Admin:      service.DefaultAdmin(),
		Redis:      redisconn.Default(),
		Telemetry:  telemetry.Default(),

		Ingest:     ingest.Default(),
		Router:     router.Default(),
		Scheduler:  scheduler.Default(),
		Dispatcher: dispatcher.Default(),
		API:        api.Default(),

		NATS:        NATSConfig{SyncInterval: time.Second},
		Streams:     stream.Default(),
		Events:      eventstream.Default(),
		Deliveries:  deliverystream.Default(),
		Retries:     retrystream.Default(),
		Journal:     journal.Default(),
		DeadLetters: deadletterstream.Default(),
	}
	c.Admin.HealthListen, c.Admin.MetricsListen = "", "127.0.0.1:9464"
	c.Telemetry.LogFormat = telemetry.FormatText
	c.API.AllowHTTP = true
	c.Dispatcher.Egress.AllowNetworks = []string{"127.0.0.0/8", "::1/128"}
	// Ids in the window are kept in memory; the deduplication window proper is longer anyway.
	c.Streams.DuplicateWindow = 30 * time.Second
	return c
}

// Validate reports what the parts do not check.
func (c *Config) Validate() error {
	return errors.Join(
		conf.NotEmpty("data-dir", c.DataDir),
		conf.NotEmpty("grpc-listen", c.GRPC.Listen),
		conf.NotEmpty("http-listen", c.HTTPListen),
		conf.Rule(c.Streams.Replicas == 1, "streams-replicas", "must be 1: there is one NATS server"),
	)
}

// Validate reports every fault at once.
func (c NATSConfig) Validate() error {
	return errors.Join(
		conf.AtLeast("max-store", c.MaxStore, 0),
		conf.Between("sync-interval", c.SyncInterval, 100*time.Millisecond, time.Minute),
	)
}

// path is a name below the data folder; an absolute one stays as it is.
func (c *Config) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.DataDir, name)
}
