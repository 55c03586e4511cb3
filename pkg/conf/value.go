package conf

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
)

// redacted stands where a secret would be printed.
const redacted = "[redacted]"

// Secret is a value that never shows itself: printing, logging or encoding it gives a fixed text.
// As an option, file:/path reads the file, without the newline at its end.
type Secret string

// Reveal returns the secret itself. Whoever calls it keeps it out of logs and errors.
func (s Secret) Reveal() string { return string(s) }

// String returns a fixed text, or nothing when there is no secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString returns what String does.
func (s Secret) GoString() string { return s.String() }

// Format prints what String returns for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue returns what String does.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText returns what String does.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON returns what String does, as JSON.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// Bytes is a number of bytes, written as 512, 64KiB, 1.5MiB, 10GB: a number and one of the units
// B, KiB, MiB, GiB, TiB (powers of 1024) or kB, KB, MB, GB, TB (powers of 1000).
type Bytes int64

// The binary units.
const (
	KiB Bytes = 1 << 10
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
	TiB Bytes = 1 << 40
)

// units maps every unit, in lower case, to its size.
var units = map[string]float64{
	"": 1, "b": 1,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
}

// errBytes is the rule for sizes.
var errBytes = errors.New("must be a number of bytes such as 512, 64KiB or 10GB")

// ParseBytes reads a number of bytes. Negative numbers, parts of a byte and anything above an
// int64 are refused.
func ParseBytes(text string) (Bytes, error) {
	text = strings.TrimSpace(text)
	end := strings.LastIndexAny(text, "0123456789.") + 1
	unit, ok := units[strings.ToLower(strings.TrimSpace(text[end:]))]
	if !ok || end == 0 {
		return 0, errBytes
	}
	number := text[:end]
	if whole, err := strconv.ParseUint(number, 10, 63); err == nil && unit == 1 {
		return Bytes(whole), nil // exact where a float64 would not be
	}
	if strings.Trim(number, "0123456789.") != "" {
		return 0, errBytes
	}
	value, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, errBytes
	}
	value *= unit
	if value >= math.MaxInt64 || value != math.Trunc(value) {
		return 0, errBytes
	}
	return Bytes(value), nil
}

// String returns the number in the largest binary unit that divides it.
func (b Bytes) String() string {
	for _, u := range []struct {
		size Bytes
		name string
	}{{TiB, "TiB"}, {GiB, "GiB"}, {MiB, "MiB"}, {KiB, "KiB"}} {
		if b != 0 && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// UnmarshalText reads a number of bytes.
func (b *Bytes) UnmarshalText(text []byte) error {
	parsed, err := ParseBytes(string(text))
	if err != nil {
		return err
	}
	*b = parsed
	return nil
}

// MarshalText returns what String does.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }
