package scheduler

import (
	"errors"
	"time"

	"github.com/postrider/postrider/pkg/conf"
)

// Config is the scheduler's own configuration.
type Config struct {
	Lease         time.Duration `conf:"lease" help:"how long a claimed retry is left to the scheduler that claimed it; shorter than the grace of the retries"`
	Poll          time.Duration `conf:"poll" help:"longest time between two looks at the index"`
	MaxInFlight   int           `conf:"max-in-flight" help:"retries that are claimed and not yet released, at most"`
	ResumeRate    float64       `conf:"resume-rate" help:"held deliveries released per second for a resumed webhook that has no rate limit"`
	SweepInterval time.Duration `conf:"sweep-interval" help:"how often the records are compared with the index and the webhooks"`
}

// Default is the configuration that most deployments want.
func Default() Config {
	return Config{
		Lease:         10 * time.Second,
		Poll:          100 * time.Millisecond,
		MaxInFlight:   4096,
		ResumeRate:    500,
		SweepInterval: time.Minute,
	}
}

// Validate reports every fault at once.
func (c *Config) Validate() error {
	return errors.Join(
		conf.Positive("lease", c.Lease),
		conf.Between("poll", c.Poll, time.Millisecond, time.Second),
		conf.Between("max-in-flight", c.MaxInFlight, 256, 65536),
		conf.Between("resume-rate", c.ResumeRate, 0.1, 100_000),
		conf.Between("sweep-interval", c.SweepInterval, 100*time.Millisecond, time.Hour),
	)
}
