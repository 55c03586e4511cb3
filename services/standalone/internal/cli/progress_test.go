package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestABarFitsItsLine(t *testing.T) {
	t.Parallel()
	require.Equal(t, "[====================                    ]   50%  taking: 5 of 10", bar("taking: 5 of 10", 5, 10, 80))
	require.Equal(t, " 50%  taking: 5 of 10", bar("taking: 5 of 10", 5, 10, 30), "no room for a bar")
	require.Equal(t, "reading: 7", bar("reading: 7", 7, 0, 80), "nobody knows of how many")
	require.Contains(t, bar("over", 12, 10, 80), "100%")
	for columns := range 100 {
		require.LessOrEqual(t, len(bar("restoring: 5 of 10", 5, 10, columns)), max(columns-1, 0))
	}
}

func TestSizesAreForPeople(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 5 << 20: "5.0 MiB", 3 << 30: "3.0 GiB"} {
		require.Equal(t, want, size(n))
	}
}

// drawing is a progress whose time stands until it is moved.
func drawing(columns int) (g *progress, out *bytes.Buffer, pass func(time.Duration)) {
	now := time.Unix(0, 0)
	out = &bytes.Buffer{}
	g = &progress{out: out, now: func() time.Time { return now }}
	if columns > 0 {
		g.columns = func() int { return columns }
	}
	return g, out, func(d time.Duration) { now = now.Add(d) }
}

func TestOnATerminalOneLineIsDrawnAgainAndRemoved(t *testing.T) {
	t.Parallel()
	g, out, pass := drawing(80)
	g.show("taking", 1, 10, "")
	g.show("taking", 2, 10, "")
	require.NotContains(t, out.String(), "2 of 10", "it is drawn a few times a second")
	pass(redraw)
	g.show("taking", 3, 10, "a\x1b[31mb")
	require.Contains(t, out.String(), "3 of 10")
	require.NotContains(t, out.String(), "\x1b[31m", "what others named drives no terminal")
	require.NotContains(t, out.String(), "\n")
	g.end()
	drawn := out.String()
	require.True(t, strings.HasSuffix(drawn, eraseLine))
	g.end()
	require.Equal(t, drawn, out.String())
}

func TestElsewhereItIsPlainLines(t *testing.T) {
	t.Parallel()
	g, out, pass := drawing(0)
	for i := range int64(100) {
		g.show("taking", i+1, 100, "")
		pass(plainly / 20)
	}
	g.show("checking", 0, 0, "")
	g.end()
	require.Equal(t, "taking: 1 of 100\ntaking: 21 of 100\ntaking: 41 of 100\ntaking: 61 of 100\ntaking: 81 of 100\nchecking\n", out.String())
}
