package match_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/match"
)

func pattern(t require.TestingT, s string) match.Pattern {
	p, err := match.ParsePattern(s)
	require.NoError(t, err, s)
	return p
}

func TestPatternMatch(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		pattern, eventType string
		want               bool
	}{
		"an exact pattern matches its type":                  {"release.live", "release.live", true},
		"an exact pattern is case-sensitive":                 {"Listener.updated", "listener.updated", false},
		"an exact pattern does not match what is below it":   {"release.live", "release.live.again", false},
		"an exact pattern does not match what is above it":   {"release.live", "release", false},
		"a prefix matches one word below":                    {"royalty.*", "royalty.reported", true},
		"a prefix matches at any depth":                      {"royalty.*", "royalty.payment.pending", true},
		"a prefix does not match the word itself":            {"royalty.*", "royalty", false},
		"a prefix ends at a word":                            {"release.*", "released.live", false},
		"a longer prefix matches below it":                   {"royalty.payment.*", "royalty.payment.pending", true},
		"a longer prefix does not match its sisters":         {"royalty.payment.*", "royalty.threshold.reached", false},
		"the star matches everything":                        {"*", "fraud.resolved", true},
		"the star does not match what is Postrider's own":    {"*", "postrider.webhook.disabled", false},
		"the star matches a word that only begins so":        {"*", "postriders.met", true},
		"the star matches the word itself":                   {"*", "postrider", true},
		"a prefix matches what is Postrider's own":           {"postrider.*", "postrider.webhook.disabled", true},
		"an exact pattern matches what is Postrider's own":   {"postrider.webhook.disabled", "postrider.webhook.disabled", true},
		"a word alone is a type":                             {"ping", "ping", true},
		"digits, underscores and hyphens are part of a word": {"fraud.bot_detection-2", "fraud.bot_detection-2", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := pattern(t, tt.pattern)
			require.Equal(t, tt.want, p.Match(tt.eventType))
			require.Equal(t, tt.pattern, p.String())
		})
	}
	require.False(t, match.Pattern{}.Match(""))
	require.False(t, match.Pattern{}.Match("a"))
	require.Empty(t, match.Pattern{}.String())
}

func TestParsePatternRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", match.MaxEventTypeBytes)
	pattern(t, long)
	pattern(t, long+".*")
	tests := map[string]struct{ pattern, says string }{
		"nothing":                            {"", "must not be empty"},
		"a star before a word":               {"*.live", "'*' must stand alone"},
		"a star between words":               {"release.*.live", "'*' must stand alone"},
		"two stars":                          {"**", "'*' must stand alone"},
		"a star inside of a word":            {"rel*", "'*' must stand alone"},
		"a prefix that is a star":            {"*.*", "'*' must stand alone"},
		"a prefix that is nothing":           {".*", "must not be empty"},
		"an empty word":                      {"release..live", "dot-separated words"},
		"a dot at the start":                 {".release", "dot-separated words"},
		"a dot at the end":                   {"release.", "dot-separated words"},
		"a space":                            {"release live", "dot-separated words"},
		"letters beyond ASCII":               {"réleaße", "dot-separated words"},
		"what NATS takes for a wildcard":     {"release.>", "dot-separated words"},
		"a slash":                            {"release/live", "dot-separated words"},
		"too many bytes":                     {long + "a", "at most 128 bytes"},
		"too many bytes before the wildcard": {long + "a.*", "at most 128 bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := match.ParsePattern(tt.pattern)
			require.ErrorContains(t, err, tt.says)
		})
	}
}

func TestCheckEventTypeTakesNoPatterns(t *testing.T) {
	t.Parallel()
	require.NoError(t, match.CheckEventType("royalty.payment.pending"))
	require.Error(t, match.CheckEventType("*"))
	require.Error(t, match.CheckEventType("release.*"))
	require.Error(t, match.CheckEventType(""))
}

// naive is the definition of a match, written another way.
func naive(p, eventType string) bool {
	if p == "*" {
		return !strings.HasPrefix(eventType, "postrider.")
	}
	want, got := strings.Split(p, "."), strings.Split(eventType, ".")
	for i, word := range want {
		if word == "*" {
			return len(got) > i
		}
		if i >= len(got) || got[i] != word {
			return false
		}
	}
	return len(got) == len(want)
}

// Generators are made where they are used: rapid's are not for several tests at once.
func genType() *rapid.Generator[string] {
	return rapid.OneOf(rapid.StringMatching(`[ab](\.[ab]){0,4}`), rapid.StringMatching(`postrider(\.[ab]){0,2}`))
}

func genPattern() *rapid.Generator[string] {
	return rapid.OneOf(genType(), rapid.StringMatching(`([ab]|postrider)(\.[ab]){0,3}\.\*`), rapid.Just("*"))
}

func TestPatternMatchesAsItsDefinition(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, eventType := genPattern().Draw(t, "pattern"), genType().Draw(t, "type")
		require.Equal(t, naive(p, eventType), pattern(t, p).Match(eventType))
	})
}

func FuzzParsePattern(f *testing.F) {
	for _, s := range []string{"release.live", "release.*", "*", "", ".*", "a..b", "Listener.updated", "a.*.b", "é"} {
		f.Add(s, "release.live")
	}
	f.Fuzz(func(t *testing.T, s, eventType string) {
		p, err := match.ParsePattern(s)
		if err != nil {
			return
		}
		require.Equal(t, s, p.String())
		require.Equal(t, p, pattern(t, p.String()))
		if match.CheckEventType(eventType) == nil {
			require.Equal(t, naive(s, eventType), p.Match(eventType))
		}
		if match.CheckEventType(s) == nil {
			require.True(t, p.Match(s))
		}
	})
}

func TestMatchingAPatternAllocatesNothing(t *testing.T) {
	patterns := []match.Pattern{pattern(t, "release.live"), pattern(t, "royalty.payment.*"), pattern(t, "*")}
	hits := 0
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for _, p := range patterns {
			if p.Match("royalty.payment.pending") {
				hits++
			}
		}
	}))
	require.NotZero(t, hits)
}

func BenchmarkPatternMatch(b *testing.B) {
	for _, s := range []string{"royalty.payment.pending", "royalty.*", "*"} {
		b.Run(s, func(b *testing.B) {
			p := pattern(b, s)
			b.ReportAllocs()
			for b.Loop() {
				if !p.Match("royalty.payment.pending") {
					b.Fatal("no match")
				}
			}
		})
	}
}

func TestOnlyPatternsThatNameReservedTypesAreReserved(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"postrider.*": true, "postrider.webhook.*": true, "postrider.webhook.failing": true,
		"*": false, "postrider": false, "postriders.*": false, "release.*": false,
	} {
		require.Equal(t, want, pattern(t, text).Reserved(), text)
	}
}
