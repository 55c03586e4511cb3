package offblocks

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func FuzzSubscription(f *testing.F) {
	f.Add([]byte(`{"id":"29CA152B-9f5e-4c1f-a8a5-1b8b5d9c3c0e","callbackUrl":"https://example.com","types":["card.updated","card.updated"]}`))
	f.Add([]byte(`{"callbackUrl":"x","types":null,"more":[]}`))
	f.Add([]byte(`{"callbackUrl":"x","id":null}{}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var s subscription
		if s.read(body) != nil {
			return
		}
		require.NotEmpty(t, *s.CallbackURL)
		require.NotEmpty(t, *s.Types)
		require.True(t, slices.Equal(*s.Types, slices.Compact(slices.Clone(*s.Types))))
		if s.ID != nil {
			id, err := parseUUID(*s.ID)
			require.NoError(t, err)
			require.Equal(t, id, *s.ID, "in one form")
		}
	})
}

func TestWhatIsShownOfAWebhookThatWasMadeElsewhere(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		patterns, want []string
	}{
		"all":       {[]string{"*"}, entityTypes()},
		"a pattern": {[]string{"customer.*", "other.created"}, []string{"customer.updated"}},
		"one":       {[]string{"card.updated"}, []string{"card.updated"}},
		"none":      {[]string{"other.created"}, []string{}},
		"no type":   {[]string{"???"}, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, shown(&postriderv1.Webhook{EventTypes: test.patterns}).Types)
		})
	}
}
