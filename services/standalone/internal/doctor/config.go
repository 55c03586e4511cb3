package doctor

import (
	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/process"
	"github.com/postrider/postrider/pkg/redisconn"
	"github.com/postrider/postrider/pkg/rpc"
	"github.com/postrider/postrider/pkg/seal"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/services/api"
	"github.com/postrider/postrider/services/dispatcher"
	"github.com/postrider/postrider/services/ingest"
	"github.com/postrider/postrider/services/router"
	"github.com/postrider/postrider/services/scheduler"
)

// Config is every option of the services, under the keys that they have there, so that the environment
// or the file of any of them can be read.
type Config struct {
	Process       process.Config          `conf:""`
	Ingest        ingest.Config           `conf:"ingest"`
	Router        router.Config           `conf:"router"`
	Scheduler     scheduler.Config        `conf:"scheduler"`
	Dispatcher    dispatcher.Config       `conf:"dispatcher"`
	API           api.Config              `conf:"api"`
	Redis         redisconn.Config        `conf:"redis"`
	Events        eventstream.Config      `conf:"events"`
	Deliveries    deliverystream.Config   `conf:"deliveries"`
	Retries       retrystream.Config      `conf:"retries"`
	Journal       journal.Config          `conf:"journal"`
	DeadLetters   deadletterstream.Config `conf:"dead-letters"`
	Internal      rpc.ServerConfig        `conf:"internal-grpc"`
	HTTPListen    string                  `conf:"http-listen" help:"where the HTTP servers listen"`
	AdminKey      conf.Secret             `conf:"admin-key" help:"credential that may do everything"`
	EncryptionKey conf.Secret             `conf:"encryption-key" help:"keyset that encrypts webhooks' secrets at rest"`
	Dispatchers   rpc.ClientConfig        `conf:"dispatcher"`
	Schedulers    rpc.ClientConfig        `conf:"scheduler"`
	Routers       rpc.ClientConfig        `conf:"router"`
	APIs          rpc.ClientConfig        `conf:"api"`
}

// DefaultConfig is what the services have when nothing is said.
func DefaultConfig() Config {
	client := func(name string) rpc.ClientConfig { return rpc.ClientConfig{Target: "dns:///" + name + ":9090"} }
	return Config{
		Process: process.Default(), Ingest: ingest.Default(), Router: router.Default(), Scheduler: scheduler.Default(),
		Dispatcher: dispatcher.Default(), API: api.Default(), Redis: redisconn.Default(), Events: eventstream.Default(),
		Deliveries: deliverystream.Default(), Retries: retrystream.Default(), Journal: journal.Default(), DeadLetters: deadletterstream.Default(),
		Internal: rpc.ServerConfig{Listen: ":9091"}, HTTPListen: ":8080",
		Dispatchers: client("dispatcher"), Schedulers: client("scheduler"), Routers: client("router"), APIs: client("api"),
	}
}

// Validate finds nothing of its own: what a service cannot do without is a finding.
func (*Config) Validate() error { return nil }

// Unreadable is the report of a configuration that has faults: nothing else can be looked at.
func Unreadable(err error) *Report {
	r := &Report{}
	r.fail("configuration", "correct the options that it names", "%v", err)
	return r
}

// secrets checks that what must be given is, and can be used.
func (r *Report) secrets(cfg *Config) {
	r.ok("configuration", "every option has a value that the services take")
	const generate = `set POSTRIDER_ENCRYPTION_KEY for api and dispatcher; "postrider encryption-key" makes a keyset`
	if keyset := cfg.EncryptionKey.Reveal(); keyset == "" {
		r.fail("encryption key", generate, "there is no keyset for webhooks' secrets")
	} else if _, err := seal.Parse(keyset); err != nil {
		r.fail("encryption key", "put back the keyset that the secrets were sealed with", "%v", err)
	} else {
		r.ok("encryption key", "the keyset can be read")
	}
	if cfg.AdminKey == "" {
		r.warn("admin key", "set POSTRIDER_ADMIN_KEY for api and ingest, unless there are stored admin keys", "there is no admin key")
		return
	}
	r.ok("admin key", "there is one")
}
