package pace

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// However many accounts there are, whether there was more than one of late is known, and the latest of all is named.
func TestCompanyKnowsWhetherThereIsMoreThanOne(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		var c company
		now, seen := start, map[string]time.Time{}
		for range rapid.IntRange(1, 40).Draw(t, "messages") {
			now = now.Add(time.Duration(rapid.IntRange(1, 6).Draw(t, "seconds")) * time.Second)
			account := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "account")
			c.saw(account, now)
			seen[account] = now
			recent := 0
			for _, at := range seen {
				if at.After(now.Add(-alone)) {
					recent++
				}
			}
			named := c.since(now.Add(-alone))
			require.Len(t, named, min(recent, 2))
			require.Contains(t, named, account)
		}
	})
}
