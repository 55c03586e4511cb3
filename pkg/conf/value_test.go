package conf_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/conf"
)

// A secret shows itself in no way but Reveal.
func TestSecretNeverShows(t *testing.T) {
	t.Parallel()
	const hidden = "open-sesame"
	s := conf.Secret(hidden)
	holder := struct{ Key conf.Secret }{s}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", s, "holder", holder)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", s, "holder", holder)
	asJSON, err := json.Marshal(holder)
	require.NoError(t, err)
	asYAML, err := yaml.Marshal(holder)
	require.NoError(t, err)
	var all strings.Builder
	all.WriteString(log.String() + string(asJSON) + string(asYAML) + fmt.Errorf("with %v", s).Error())
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
		for _, value := range []any{s, holder, &holder, []conf.Secret{s}} {
			fmt.Fprintf(&all, verb, value)
		}
	}
	shown := all.String()
	require.NotContains(t, shown, hidden)
	require.NotContains(t, strings.ToLower(shown), fmt.Sprintf("%x", hidden))
	require.Contains(t, shown, "[redacted]")
	require.Equal(t, hidden, s.Reveal())
	require.Empty(t, conf.Secret("").String(), "no secret is no secret")
}

// Sizes are written as people write them.
func TestParseBytes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text string
		want conf.Bytes // -1: refused
	}{
		"a number is bytes":           {"512", 512},
		"bytes have a unit":           {"7B", 7},
		"binary units":                {"64KiB", 64 << 10},
		"larger ones":                 {"3TiB", 3 << 40},
		"decimal units":               {"10GB", 10e9},
		"case does not matter":        {"1mib", 1 << 20},
		"parts of a unit":             {"1.5MiB", 3 << 19},
		"space is allowed":            {" 2 KiB ", 2048},
		"large numbers are exact":     {"9223372036854775807", 1<<63 - 1},
		"larger ones are refused":     {"9223372036854775808", -1},
		"so are large units":          {"8388608TiB", -1},
		"parts of a byte are refused": {"0.5", -1},
		"negative ones too":           {"-1", -1},
		"and signs":                   {"+1", -1},
		"and exponents":               {"1e3", -1},
		"and infinity":                {"inf", -1},
		"and hexadecimal":             {"0x10", -1},
		"and unknown units":           {"1PiB", -1},
		"and a unit alone":            {"KiB", -1},
		"and nothing":                 {"", -1},
		"and two points":              {"1.2.3KiB", -1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := conf.ParseBytes(tt.text)
			if tt.want < 0 {
				require.ErrorContains(t, err, "must be a number of bytes")
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}

// Whatever size is written can be read again.
func TestBytesRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := conf.Bytes(rapid.Int64Min(0).Draw(t, "bytes"))
		got, err := conf.ParseBytes(b.String())
		require.NoError(t, err)
		require.Equal(t, b, got)
	})
}

// Each check names its option and its rule.
func TestChecks(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err  error
		want string // empty: no fault
	}{
		"positive":         {conf.Positive("a", time.Nanosecond), ""},
		"zero":             {conf.Positive("a", 0), "a: must be above zero"},
		"lowest":           {conf.Between("a", 1, 1, 3), ""},
		"highest":          {conf.Between("a", 3, 1, 3), ""},
		"too high":         {conf.Between("a", 4, 1, 3), "a: must be from 1 to 3, not 4"},
		"too long":         {conf.Between("a", time.Hour, 0, time.Minute), "a: must be from 0s to 1m0s, not 1h0m0s"},
		"enough":           {conf.AtLeast("a", 2, 2), ""},
		"too little":       {conf.AtLeast("a", 1, 2), "a: must be at least 2, not 1"},
		"something":        {conf.NotEmpty("a", "x"), ""},
		"nothing":          {conf.NotEmpty("a", ""), "a: must be set"},
		"a choice":         {conf.OneOf("a", "x", "x", "y"), ""},
		"no choice":        {conf.OneOf("a", "z", "x", "y"), "a: must be one of [x y]"},
		"prefixed":         {conf.Prefix("n", errors.Join(conf.NotEmpty("a", ""), errors.New("other"))), "n-a: must be set\nother"},
		"prefixed nothing": {conf.Prefix("n", nil), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.want == "" {
				require.NoError(t, tt.err)
				return
			}
			require.EqualError(t, tt.err, tt.want)
		})
	}
}

// FuzzParseBytes: what is accepted is not negative, and is read again as the same.
func FuzzParseBytes(f *testing.F) {
	for _, seed := range []string{"", "1", "64KiB", "1.5MiB", "-1", "1e9", "9223372036854775807", "0.0000000001TB", "NaN"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b, err := conf.ParseBytes(text)
		if err != nil {
			return
		}
		require.GreaterOrEqual(t, b, conf.Bytes(0))
		again, err := conf.ParseBytes(b.String())
		require.NoError(t, err)
		require.Equal(t, b, again)
	})
}

// FuzzLoad gives one text to every option, by every source: nothing panics, and neither does a
// secret show in a fault.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{"", "1", "true", "5s", "a,b", "64KiB", "::1", "file:/nowhere", "[", "nats: {url: x}", "listen: *x", "? a\n: b"} {
		f.Add(seed)
	}
	names := conf.Describe(defaults())
	f.Fuzz(func(t *testing.T, text string) {
		vars, args := map[string]string{}, []string{}
		for _, o := range names {
			vars[o.Env] = text
			args = append(args, o.Flag+"="+text)
		}
		for _, run := range []func() error{
			func() error { return conf.Load("fuzz", defaults(), nil, environment(vars), &bytes.Buffer{}) },
			func() error { return conf.Load("fuzz", defaults(), args, environment(nil), &bytes.Buffer{}) },
			func() error { return conf.Load("fuzz", defaults(), []string{text}, environment(nil), &bytes.Buffer{}) },
			func() error { return load(t, defaults(), text, nil) },
		} {
			_ = run()
		}
	})
}

// A secret in the wrong place does not show in the fault: no rule repeats the value.
func TestFaultsDoNotRepeatValues(t *testing.T) {
	t.Parallel()
	const hidden = "open-sesame"
	for _, o := range conf.Describe(defaults()) {
		if o.Type == "text" {
			continue // the type's own words
		}
		err := load(t, defaults(), "", map[string]string{o.Env: hidden})
		if err != nil {
			require.NotContains(t, err.Error(), hidden, o.Name)
		}
	}
}
