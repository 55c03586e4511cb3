// Package conf fills a service's configuration from its defaults, a YAML file, POSTRIDER_*
// environment variables and flags, each stronger than the one before, and reports every fault at
// once. It knows no option itself: a service declares its own in a struct.
//
//	type Config struct {
//		Listen string          `conf:"listen" help:"where the gRPC API listens"`
//		NATS   natsconn.Config `conf:"nats"`
//	}
//
// A field's name, with those of the structs it stands in, joined by dashes, gives the flag
// --nats-url, the environment variable POSTRIDER_NATS_URL and the YAML key nats.url (nats-url in
// one piece is the same). The value a field has before Load is its default. A struct with the tag
// conf:"" adds its options as if they stood in the one around it, and so does an embedded struct
// without a tag. Other fields without a conf tag are no options.
//
// Fields may be string, bool, int, int64, float64, time.Duration, []string, Bytes, Secret, or
// anything whose pointer implements encoding.TextUnmarshaler.
package conf

import (
	"errors"
	"io"
)

// EnvPrefix begins the name of every environment variable. Variables with the prefix that no
// option of a program claims are left alone: pods share their environment.
const EnvPrefix = "POSTRIDER_"

// ErrHelp is returned by Load after it has printed the options because -h or --help was given.
// The program then ends with success.
var ErrHelp = errors.New("help was asked for")

// Validator is a configuration that can say what is wrong with itself: all of it, joined, as made
// by Positive, Between, NotEmpty and Rule. Structs inside a configuration that have a Validate
// method are asked by Load too; a parent does not call them.
type Validator interface {
	Validate() error
}

// Load fills the configuration, which holds its defaults, and validates it. The error names every
// fault: of the file, the environment, the flags, and of the values taken together. lookup is
// os.LookupEnv in a program; out gets the help when it is asked for, and ErrHelp is returned.
//
// The file is the one named by --config or POSTRIDER_CONFIG; without either there is none.
func Load(program string, cfg Validator, args []string, lookup func(string) (string, bool), out io.Writer) error {
	return load(program, cfg, args, lookup, out)
}

// Option describes one option of a configuration.
type Option struct {
	Name    string // nats-url
	Flag    string // --nats-url
	Env     string // POSTRIDER_NATS_URL
	Key     string // nats.url, the YAML key
	Type    string // string, duration, bytes, ...
	Default string // as one would write it; empty for none and for secrets
	Help    string
	Secret  bool
}
