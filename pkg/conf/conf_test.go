package conf_test

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/conf"
)

// inner is a configuration that another one uses.
type inner struct {
	URL     string        `conf:"url" help:"where it is"`
	Timeout time.Duration `conf:"timeout" help:"how long it may take"`
}

// Validate requires a URL and a time limit.
func (c inner) Validate() error {
	return errors.Join(conf.NotEmpty("url", c.URL), conf.Positive("timeout", c.Timeout))
}

// shared is inlined.
type shared struct {
	Level string `conf:"log-level" help:"what is logged"`
}

// config has an option of every type.
type config struct {
	Shared   shared        `conf:""`
	NATS     inner         `conf:"nats"`
	Listen   string        `conf:"listen" help:"where it listens"`
	Verbose  bool          `conf:"verbose" help:"says more"`
	Workers  int           `conf:"workers" help:"how many work"`
	Offset   int64         `conf:"offset" help:"where it begins"`
	Ratio    float64       `conf:"ratio" help:"which share"`
	Timeout  time.Duration `conf:"attempt-timeout" help:"how long an attempt may take"`
	Allowed  []string      `conf:"allowed" help:"who may"`
	Size     conf.Bytes    `conf:"size" help:"how much"`
	Key      conf.Secret   `conf:"key" help:"who it is"`
	Address  netip.Addr    `conf:"address" help:"which one"`
	Derived  int
	Excluded string `conf:"-"`
}

// Validate requires workers, and that attempts are shorter than the connection.
func (c *config) Validate() error {
	return errors.Join(
		conf.Between("workers", c.Workers, 1, 8),
		conf.Rule(c.Timeout < time.Hour, "attempt_timeout", "must be below an hour"),
	)
}

// defaults returns a configuration that is valid.
func defaults() *config {
	return &config{
		Shared: shared{Level: "info"}, NATS: inner{URL: "nats://localhost:4222", Timeout: time.Second},
		Listen: ":9090", Workers: 2, Timeout: 20 * time.Second, Size: 4 * conf.KiB, Allowed: []string{"a", "b"}, Ratio: 0.5,
	}
}

// environment returns a lookup in the map.
func environment(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}
}

// file writes a YAML file and returns its path.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// load loads with a file that may be empty.
func load(t *testing.T, cfg *config, yaml string, vars map[string]string, args ...string) error {
	t.Helper()
	if yaml != "" {
		args = append(args, "--config", file(t, yaml))
	}
	return conf.Load("test", cfg, args, environment(vars), &bytes.Buffer{})
}

// Flags are stronger than the environment, that than the file, and that than the defaults.
func TestStrengthOfSources(t *testing.T) {
	t.Parallel()
	cfg := defaults()
	err := load(t, cfg, "listen: file\nworkers: 3\nattempt-timeout: 3s\nnats:\n  url: file\n  timeout: 3s\n",
		map[string]string{"POSTRIDER_LISTEN": "env", "POSTRIDER_WORKERS": "4", "POSTRIDER_NATS_URL": "env"},
		"--listen=flag", "--nats-url", "flag")
	require.NoError(t, err)
	require.Equal(t, "flag", cfg.Listen)
	require.Equal(t, "flag", cfg.NATS.URL)
	require.Equal(t, 4, cfg.Workers)
	require.Equal(t, 3*time.Second, cfg.Timeout)
	require.Equal(t, 3*time.Second, cfg.NATS.Timeout)
	require.Equal(t, 4*conf.KiB, cfg.Size)
}

// Every type can be set from every source.
func TestEveryTypeFromEverySource(t *testing.T) {
	t.Parallel()
	want := defaults()
	want.Shared.Level, want.NATS = "debug", inner{URL: "nats://n", Timeout: 2 * time.Minute}
	want.Listen, want.Verbose, want.Workers, want.Offset, want.Ratio = ":1", true, 8, -1<<40, 0.25
	want.Timeout, want.Allowed, want.Size, want.Key = 1500*time.Millisecond, []string{"x", "y"}, 64*conf.MiB, "hush"
	want.Address = netip.MustParseAddr("::1")

	tests := map[string]struct {
		yaml string
		env  map[string]string
		args []string
	}{
		"nested file": {yaml: `
log-level: debug
nats: {url: "nats://n", timeout: 2m}
listen: ":1"
verbose: true
workers: 8
offset: -1099511627776
ratio: 0.25
attempt-timeout: 1.5s
allowed: [x, y]
size: 64MiB
key: hush
address: "::1"
`},
		"flat file": {yaml: "nats-url: nats://n\nnats-timeout: 120s\nlog-level: debug\nlisten: ':1'\nverbose: true\nworkers: 8\noffset: -1099511627776\n" +
			"ratio: .25\nattempt-timeout: 1500ms\nallowed: x, y\nsize: 67108864\nkey: hush\naddress: ::1\n"},
		"environment": {env: map[string]string{
			"POSTRIDER_LOG_LEVEL": "debug", "POSTRIDER_NATS_URL": "nats://n", "POSTRIDER_NATS_TIMEOUT": "2m",
			"POSTRIDER_LISTEN": ":1", "POSTRIDER_VERBOSE": "true", "POSTRIDER_WORKERS": "8", "POSTRIDER_OFFSET": "-1099511627776",
			"POSTRIDER_RATIO": "0.25", "POSTRIDER_ATTEMPT_TIMEOUT": "1.5s", "POSTRIDER_ALLOWED": "x,y", "POSTRIDER_SIZE": "64MiB",
			"POSTRIDER_KEY": "hush", "POSTRIDER_ADDRESS": "::1", "POSTRIDER_SOMEBODY_ELSES": "ignored",
		}},
		"flags": {args: []string{
			"--log-level=debug", "--nats-url=nats://n", "--nats-timeout=2m", "--listen=:1", "--verbose", "--workers=8",
			"--offset=-1099511627776", "--ratio=0.25", "--attempt-timeout=1.5s", "--allowed=x", "--allowed", "y", "--size=64MiB",
			"--key=hush", "--address=::1",
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := defaults()
			require.NoError(t, load(t, cfg, tt.yaml, tt.env, tt.args...))
			require.Equal(t, want, cfg)
		})
	}
}

// The file may be named by the environment.
func TestFileFromEnvironment(t *testing.T) {
	t.Parallel()
	cfg := defaults()
	require.NoError(t, load(t, cfg, "", map[string]string{"POSTRIDER_CONFIG": file(t, "listen: there")}))
	require.Equal(t, "there", cfg.Listen)
}

// All faults of all sources are reported at once, each with every place where its option is set.
func TestEveryFaultAtOnce(t *testing.T) {
	t.Parallel()
	cfg := defaults()
	err := load(t, cfg, "wokers: 1\nratio: [1]\nnats:\n  urk: x\n  timeout: -1s\nallowed: [a, '']\nlisten:\n  deep: 1\n",
		map[string]string{"POSTRIDER_SIZE": "big", "POSTRIDER_OFFSET": "1.5", "POSTRIDER_ATTEMPT_TIMEOUT": "60m"},
		"--workers=9", "--vrebose", "--nonsense", "value", "--verbose=perhaps", "stray")
	require.Error(t, err)
	for _, want := range []string{
		"the configuration of test has 14 fault(s):",
		":1: wokers: there is no such option; did you mean workers?",
		":2: ratio (--ratio, POSTRIDER_RATIO): must be a single value",
		":4: nats.urk: there is no such option; did you mean nats.url?",
		":6: allowed (--allowed, POSTRIDER_ALLOWED): must not hold an empty item",
		":8: listen (--listen, POSTRIDER_LISTEN): must be a single value",
		"--nats-timeout (POSTRIDER_NATS_TIMEOUT, nats.timeout): must be above zero",
		"--size (POSTRIDER_SIZE, size): must be a number of bytes",
		"--offset (POSTRIDER_OFFSET, offset): must be a whole number",
		"--attempt-timeout (POSTRIDER_ATTEMPT_TIMEOUT, attempt-timeout): must be below an hour",
		"--workers (POSTRIDER_WORKERS, workers): must be from 1 to 8, not 9",
		"--verbose (POSTRIDER_VERBOSE, verbose): must be true or false",
		"--vrebose: there is no such flag; did you mean --verbose?",
		"--nonsense: there is no such flag",
	} {
		require.ErrorContains(t, err, want)
	}
}

// A value that was refused is not judged a second time by the rules about it.
func TestRefusedValueIsReportedOnce(t *testing.T) {
	t.Parallel()
	cfg := defaults()
	cfg.Workers = 0 // not valid by itself
	err := load(t, cfg, "", map[string]string{"POSTRIDER_WORKERS": "many"})
	require.EqualError(t, err, "the configuration of test has 1 fault(s):\n--workers (POSTRIDER_WORKERS, workers): must be a whole number")
}

// What is wrong with a file is said with its line.
func TestFileFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		yaml, want string
	}{
		"what is no YAML is refused":             {"listen: [", "must be YAML"},
		"a list is no configuration":             {"- listen", ":1: must be a mapping of options"},
		"an option is set once":                  {"nats:\n  url: a\nnats-url: b\n", ":3: nats.url: is set already in line 2"},
		"a key may not come twice":               {"listen: a\nlisten: b\n", ":2: listen: is set already in line 1"},
		"an empty value is no value":             {"listen:\n", ":1: listen (--listen, POSTRIDER_LISTEN): must have a value, or be left out"},
		"aliases are refused":                    {"log-level: &x debug\nlisten: *x\n", ":2: aliases"},
		"underscores are not dashes, but nearly": {"attempt_timeout: 1s\n", "did you mean attempt-timeout?"},
		"a section is no option":                 {"nats: 5\n", ":1: nats: there is no such option"},
		"far from everything there is no hint":   {"zzzzzzzzzzzzzzz: 5\n", ":1: zzzzzzzzzzzzzzz: there is no such option"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, load(t, defaults(), tt.yaml, nil), tt.want)
		})
	}
	require.ErrorContains(t, load(t, defaults(), "", nil, "--config", "/nowhere/at.yaml"),
		"--config (POSTRIDER_CONFIG): must name a file that can be read: /nowhere/at.yaml: no such file or directory")
	for _, empty := range []string{" ", "# nothing\n", "---\n", "nats:\n"} {
		require.NoError(t, load(t, defaults(), empty, nil), "%q", empty)
	}
}

// What is wrong with the flags is said by the flag's name.
func TestFlagFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args []string
		want string
	}{
		"a flag needs its value":           {[]string{"--listen"}, "flag needs an argument: --listen"},
		"there are no short flags":         {[]string{"-x"}, "unknown shorthand flag: 'x'"},
		"there are no arguments":           {[]string{"up"}, `"up": takes no arguments, only flags`},
		"bad syntax is refused":            {[]string{"---x"}, "bad flag syntax: ---x"},
		"an unknown flag takes its value":  {[]string{"--who", "me", "--workers=99"}, "must be from 1 to 8"},
		"an unknown flag takes no flag":    {[]string{"--who", "--workers=99"}, "must be from 1 to 8"},
		"an unknown flag may stand at end": {[]string{"--workers=99", "--who"}, "must be from 1 to 8"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := load(t, defaults(), "", nil, tt.args...)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

// A secret can stand in a file of its own, and never shows in a fault.
func TestSecretFromFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(path, []byte("from file\r\n"), 0o600))
	cfg := defaults()
	require.NoError(t, load(t, cfg, "", map[string]string{"POSTRIDER_KEY": "file:" + path}))
	require.Equal(t, "from file", cfg.Key.Reveal())

	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, []byte("\n"), 0o600))
	big := filepath.Join(t.TempDir(), "big")
	require.NoError(t, os.WriteFile(big, bytes.Repeat([]byte("x"), 1<<20+1), 0o600))
	for value, want := range map[string]string{
		"file:/nowhere/key":    "must name a file that can be read: /nowhere/key: no such file or directory",
		"file:" + empty:        "must name a file that is not empty",
		"file:" + big:          "must name a file of at most 1MiB",
		"file:" + os.TempDir(): "must name a file that can be read",
	} {
		require.ErrorContains(t, load(t, defaults(), "", nil, "--key="+value), want)
	}
}

// Help prints every option with its default and ends the load; nothing else is judged.
func TestHelp(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"-h", "--help"} {
		cfg := defaults()
		cfg.Key = "never shown"
		var out bytes.Buffer
		err := conf.Load("test", cfg, []string{"--workers=99", flag}, environment(nil), &out)
		require.ErrorIs(t, err, conf.ErrHelp)
		require.Contains(t, out.String(), "Usage: test [flags]")
		require.Contains(t, out.String(), "--nats-timeout duration (POSTRIDER_NATS_TIMEOUT)\n        how long it may take (default 1s)\n")
		require.Contains(t, out.String(), "--allowed list (POSTRIDER_ALLOWED)\n        who may (default a,b)\n")
		require.Contains(t, out.String(), "--config string (POSTRIDER_CONFIG)")
		require.NotContains(t, out.String(), "never shown")
	}
	require.Error(t, conf.Load("test", defaults(), []string{"-h"}, environment(nil), broken{}))
}

// broken is a writer that cannot be written to.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, os.ErrClosed }

// Describe gives every option in order, with what the documentation needs.
func TestDescribe(t *testing.T) {
	t.Parallel()
	cfg := defaults()
	cfg.Key = "never shown"
	options := conf.Describe(cfg)
	names := make([]string, len(options))
	for i, o := range options {
		names[i] = o.Name + "/" + o.Type
		require.NotEmpty(t, o.Help, o.Name)
	}
	require.Equal(t, []string{
		"log-level/string", "nats-url/string", "nats-timeout/duration", "listen/string", "verbose/bool", "workers/int", "offset/int",
		"ratio/float", "attempt-timeout/duration", "allowed/list", "size/bytes", "key/secret", "address/text",
	}, names)
	require.Equal(t, conf.Option{
		Name: "nats-timeout", Flag: "--nats-timeout", Env: "POSTRIDER_NATS_TIMEOUT", Key: "nats.timeout",
		Type: "duration", Default: "1s", Help: "how long it may take",
	}, options[2])
	require.Equal(t, conf.Option{
		Name: "key", Flag: "--key", Env: "POSTRIDER_KEY", Key: "key", Type: "secret", Help: "who it is", Secret: true,
	}, options[11])
	require.Equal(t, "4KiB", options[10].Default)
}

// Markdown is a table that nothing in a help text can break.
func TestMarkdown(t *testing.T) {
	t.Parallel()
	cfg := struct {
		Mode string `conf:"mode" help:"one of a | b,\n or c"`
	}{Mode: "a|b"}
	require.Equal(t, "## Title\n\n"+
		"| Flag | Environment | YAML | Type | Default | Meaning |\n|---|---|---|---|---|---|\n"+
		"| `--config` | `POSTRIDER_CONFIG` |  | string |  | the YAML file to read |\n"+
		"| `--mode` | `POSTRIDER_MODE` | `mode` | string | `a\\|b` | one of a \\| b, or c |\n",
		conf.Markdown("Title", &cfg))
}

// A configuration that declares its options wrongly is found in the first test that loads it.
func TestWrongDeclarationsPanic(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]any{
		"not a pointer": config{},
		"a nil pointer": (*config)(nil),
		"not a struct":  new(int),
		"a type not known": &struct {
			A map[string]string `conf:"a"`
		}{},
		"a name not valid": &struct {
			A string `conf:"A_b"`
		}{},
		"a field not seen": &struct {
			a string `conf:"a"`
		}{a: ""},
		"a name used twice": &struct {
			A, B string `conf:"a"`
		}{},
		"a name taken": &struct {
			A string `conf:"config"`
		}{},
		"two paths to one": &struct {
			A struct {
				B string `conf:"b"`
			} `conf:"a"`
			C string `conf:"a-b"`
		}{},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Panics(t, func() { conf.Describe(cfg) })
		})
	}
}
