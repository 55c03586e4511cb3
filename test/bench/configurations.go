package bench

// Configuration is one way to use the system.
type Configuration struct {
	Name   string  `json:"name"`
	Form   string  `json:"form"`
	Load   Load    `json:"load"`
	FanOut int     `json:"fan_out"`
	Groups int     `json:"groups"` // of webhooks, each with an event type of its own
	Rate   float64 `json:"rate"`   // events a second of an open loop; 0: closed loops
	// HalfOf names the configuration whose delivered/s, halved, is the rate: of its first run here.
	HalfOf     string `json:"half_of,omitempty"`
	TLS        bool   `json:"tls,omitempty"`         // webhooks have https URLs
	NoRecorder bool   `json:"no_recorder,omitempty"` // the api, with the recorder in it, does not run
}

// open says whether it publishes at a rate, whatever is answered.
func (c *Configuration) open() bool { return c.Rate > 0 || c.HalfOf != "" }

// Names of configurations that others, or targets, refer to.
const (
	confUnary      = "unary"
	confBatch      = "batch"
	confFanOut     = "fan-out"
	confNoRecorder = "no-recorder"
	confTLS        = "tls"
	confLatency    = "latency"
	confHalf       = "half-rate"
	confOne        = "one-process"
)

// Configurations are what a run measures, in the order of each round.
func Configurations() []Configuration {
	const groups, manyGroups = 16, 4
	batch := Load{Method: batched, Producers: 16, Size: 50}
	one := Load{Method: unary, Size: 1}
	return []Configuration{
		{Name: confUnary, Form: separate, Load: Load{Method: unary, Producers: 256, Size: 1}, FanOut: 1, Groups: groups},
		{Name: confBatch, Form: separate, Load: batch, FanOut: 1, Groups: groups},
		{Name: confNoRecorder, Form: separate, Load: batch, FanOut: 1, Groups: groups, NoRecorder: true},
		{Name: confTLS, Form: separate, Load: batch, FanOut: 1, Groups: groups, TLS: true},
		{Name: "stream", Form: separate, Load: Load{Method: streaming, Producers: 8, Size: 100}, FanOut: 1, Groups: groups},
		{Name: confFanOut, Form: separate, Load: batch, FanOut: 10, Groups: manyGroups},
		{Name: confLatency, Form: separate, Load: one, FanOut: 1, Groups: groups, Rate: 100},
		{Name: confHalf, Form: separate, Load: one, FanOut: 1, Groups: groups, HalfOf: confUnary},
		{Name: confOne, Form: oneProcess, Load: batch, FanOut: 1, Groups: groups},
		{Name: "one-process-latency", Form: oneProcess, Load: one, FanOut: 1, Groups: groups, Rate: 100},
	}
}
