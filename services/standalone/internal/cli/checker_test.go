package cli

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/profile"
)

func TestListenKnowsProfilesThatAreSignedWithASecret(t *testing.T) {
	t.Parallel()
	// Keys of the account sign offblocks, and a webhook of its own describes custom.
	without := map[string]bool{"offblocks": true, "custom": true}
	for _, name := range profile.Names() {
		c, err := newChecker(name, nil, time.Now, func() string { return "http://h" })
		if without[name] {
			require.ErrorContains(t, err, "--profile must be one of standard, ")
			continue
		}
		require.NoError(t, err, name)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://h/", strings.NewReader("{}"))
		require.NoError(t, err)
		require.ErrorIs(t, c.verify(r, []byte("{}")), errUnchecked)
		p, ok := profile.Lookup(name)
		require.True(t, ok)
		text, _, err := p.NewSecret("")
		require.NoError(t, err)
		require.NoError(t, c.add(text), name)
		require.Error(t, c.verify(r, []byte("{}")), name)
	}
	require.Len(t, checkable(), len(profile.Names())-len(without))
	require.Equal(t, "https://a.example:8443", originOf("https://a.example:8443/b?c"))
	require.Equal(t, "http://a", originOf("http://a"))
}
