package dispatcher

import (
	"errors"
	"time"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/services/dispatcher/internal/egress"
	"github.com/postrider/postrider/services/dispatcher/internal/pipeline"
)

// Config is the dispatcher's own configuration.
type Config struct {
	// Pipeline is how deliveries are attempted.
	Pipeline pipeline.Config `conf:""`
	// Egress is how receivers are reached.
	Egress EgressConfig `conf:"egress"`
	// AttemptTimeout is the total time of an attempt of webhooks that state none. Default 20 s.
	AttemptTimeout time.Duration `conf:"attempt-timeout" help:"total time of an attempt, for webhooks that state none"`
	// MaxInFlight is the concurrency of webhooks that state none. Default 64.
	MaxInFlight int `conf:"max-in-flight" help:"attempts at once, for webhooks that state no limit"`
	// RetryTimeScale multiplies the delays of every retry schedule. Default 1.
	RetryTimeScale float64 `conf:"retry-time-scale" help:"factor on every delay of every retry schedule, for tests and development; 1 in production"`
	// PayloadCache bounds the payloads kept of events that deliveries refer to. Default 64 MiB.
	PayloadCache conf.Bytes `conf:"payload-cache" help:"memory for payloads that deliveries only refer to"`
	// TestSlots is how many test attempts are made at once. Default 64.
	TestSlots int `conf:"test-slots" help:"test attempts at once"`
}

// EgressConfig is how receivers are reached.
type EgressConfig struct {
	AllowNetworks      []string      `conf:"allow-networks" help:"CIDRs or addresses that may be contacted although they are not public"`
	Proxy              conf.Secret   `conf:"proxy" help:"URL of a forward proxy that is asked for a tunnel (CONNECT) to every receiver; the proxy then decides about addresses. Proxies of the environment are ignored"`
	CAFile             string        `conf:"ca-file" help:"PEM file of certificate authorities that receivers may have besides the system's"`
	ConnectTimeout     time.Duration `conf:"connect-timeout" help:"time to resolve and connect"`
	TLSTimeout         time.Duration `conf:"tls-timeout" help:"time for the TLS handshake"`
	HeaderTimeout      time.Duration `conf:"header-timeout" help:"time from the request's end to the response's header; 0 for the attempt's total time"`
	BodyTimeout        time.Duration `conf:"body-timeout" help:"time to read a response's body, of which the rest is then not read"`
	IdleTimeout        time.Duration `conf:"idle-timeout" help:"how long an unused connection is kept"`
	MaxIdleConnections int           `conf:"max-idle-connections" help:"unused connections kept in all"`
	MaxIdlePerHost     int           `conf:"max-idle-per-host" help:"unused connections kept to one host"`
}

// Default is the configuration that most deployments want.
func Default() Config {
	return Config{
		Pipeline: pipeline.Default(),
		Egress: EgressConfig{
			ConnectTimeout: 5 * time.Second, TLSTimeout: 5 * time.Second, BodyTimeout: 5 * time.Second,
			IdleTimeout: time.Minute, MaxIdleConnections: 4096, MaxIdlePerHost: 1024,
		},
		AttemptTimeout: 20 * time.Second, MaxInFlight: 64, RetryTimeScale: 1, PayloadCache: 64 * conf.MiB, TestSlots: 64,
	}
}

// Validate reports every fault of the options that are the dispatcher's own, at once.
func (c *Config) Validate() error {
	return errors.Join(
		conf.Between("attempt-timeout", c.AttemptTimeout, time.Second, 30*time.Second),
		conf.Between("max-in-flight", c.MaxInFlight, 1, 1024),
		conf.Rule(c.RetryTimeScale > 0 && c.RetryTimeScale <= 1000, "retry-time-scale", "must be above 0 and at most 1000"),
		conf.AtLeast("payload-cache", c.PayloadCache, conf.MiB),
		conf.Between("test-slots", c.TestSlots, 1, 4096),
	)
}

// Validate reports every fault at once.
func (c EgressConfig) Validate() error {
	_, guardErr := egress.NewGuard(c.AllowNetworks)
	return errors.Join(
		conf.Rule(guardErr == nil, "allow-networks", "must be CIDRs or addresses"),
		conf.Positive("connect-timeout", c.ConnectTimeout),
		conf.Positive("tls-timeout", c.TLSTimeout),
		conf.AtLeast("header-timeout", c.HeaderTimeout, 0),
		conf.Positive("body-timeout", c.BodyTimeout),
		conf.Positive("idle-timeout", c.IdleTimeout),
		conf.AtLeast("max-idle-connections", c.MaxIdleConnections, 1),
		conf.AtLeast("max-idle-per-host", c.MaxIdlePerHost, 1),
	)
}

// validate is Validate of the whole, for those who do not load a configuration.
func (c *Config) validate() error {
	return errors.Join(
		c.Validate(),
		c.Pipeline.Validate(),
		conf.Prefix("breaker", c.Pipeline.Breaker.Validate()),
		conf.Prefix("egress", c.Egress.Validate()),
	)
}
