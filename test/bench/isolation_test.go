package bench

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestABlackHoleAnswersUnlessItHangs(t *testing.T) {
	t.Parallel()
	h, err := newBlackHole(t.Context())
	require.NoError(t, err)
	t.Cleanup(h.close)
	ask := func(ctx context.Context) error {
		q, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url+hookPath, http.NoBody)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(q)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
	require.NoError(t, ask(t.Context()))

	h.hang(true)
	answered := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { answered <- ask(ctx) }()
	h.hang(false)
	require.NoError(t, <-answered, "what hangs is answered once it no longer does, and so is what comes after")

	h.hang(true)
	go func() { answered <- ask(ctx) }()
	cancel()
	require.ErrorIs(t, <-answered, context.Canceled)
	h.hang(false)
}

func TestTheBudgetIsSharedByTheConfigurationsOfAForm(t *testing.T) {
	t.Parallel()
	b := &bench{began: time.Unix(0, 0), opts: Options{Budget: 10 * time.Minute}, configurations: Configurations()}
	require.Equal(t, 8*time.Minute, b.share(separate).Sub(b.began))
	require.Equal(t, 10*time.Minute, b.share(oneProcess).Sub(b.began))
	b.configurations = b.configurations[:1]
	require.Equal(t, 10*time.Minute, b.share(separate).Sub(b.began), "all of it, if nothing else is measured")
}

func TestNamesAreThoseOfWhatIsMeasured(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, c := range Configurations() {
		require.False(t, names[c.Name], c.Name)
		names[c.Name] = true
	}
	for _, g := range groups() {
		require.False(t, names[g.name], g.name)
		names[g.name] = true
	}
	for name := range ratioTargets {
		require.True(t, names[name], "the target of %s is of something that is measured", name)
	}
	for _, c := range Configurations() {
		require.True(t, c.HalfOf == "" || names[c.HalfOf])
	}
}
