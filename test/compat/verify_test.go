//go:build e2e

package compat

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/verify"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
	"github.com/postrider/postrider/test/system"
)

// TestLibrary has the library for receivers verify deliveries of all profiles.
func TestLibrary(t *testing.T) {
	s := open(t)
	t.Run("2.3.9 the library for receivers", func(t *testing.T) {
		t.Parallel()
		for profile, build := range map[string]func(secrets []string, o verify.Options) (*verify.Verifier, error){
			"standard": verify.Standard, "cloudevents": verify.Standard, "ingedata": verify.Standard, "labelst": verify.StandardText,
			"svix": named("svix"), "stripe": named("stripe"), "github": named("github"), "shopify": named("shopify"), "slack": named("slack"),
			"square": named("square"), "twilio": named("twilio"), "jewelmusic": named("jewelmusic"), "jewelmusic-sdk": named("jewelmusic-sdk"),
		} {
			t.Run(profile, func(t *testing.T) {
				t.Parallel()
				a, r := s.NewAccount(t), receivertest.New(t)
				made := a.Webhook(t, &postriderv1.Webhook{Url: r.URL + "/hook?a=b", EventTypes: all, Profile: profile})
				v, err := build([]string{made.GetSecret()}, verify.Options{URL: verify.Origin(r.URL)})
				require.NoError(t, err)
				_, again := genuine(t, a, r, v, "release.live")
				require.NoError(t, again, "without a window")
			})
		}
	})
	t.Run("2.3.10 message signatures", func(t *testing.T) {
		t.Parallel()
		for name, w := range map[string]*postriderv1.Webhook{
			"standard, target-uri":      {Profile: "standard", Options: &postriderv1.ProfileOptions{MessageSignature: "target-uri"}},
			"standard, authority-parts": {Profile: "standard", Options: &postriderv1.ProfileOptions{MessageSignature: "authority-parts"}},
			"github, target-uri":        {Profile: "github", Options: &postriderv1.ProfileOptions{MessageSignature: "target-uri"}},
			"offblocks":                 {Profile: "offblocks"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				a, r := s.NewAccount(t), receivertest.New(t)
				w.Url, w.EventTypes = r.URL+"/hook?a=b%20c", all
				a.Webhook(t, w)
				code, set := system.Call(t, http.MethodGet, a.APIURL+"/.well-known/jwks.json?account="+a.ID, "", "")
				require.Equal(t, http.StatusOK, code, set)
				keys, err := verify.JWKS([]byte(set))
				require.NoError(t, err)
				coverage := verify.TargetURI
				if w.GetOptions().GetMessageSignature() == "authority-parts" {
					coverage = verify.AuthorityParts
				}
				v, err := verify.MessageSignatures(keys, coverage, verify.Options{URL: verify.Origin(r.URL), Window: verify.NewWindow(100)})
				require.NoError(t, err)
				m, replayed := genuine(t, a, r, v, "customer.updated")
				require.ErrorIs(t, replayed, verify.ErrReplay)
				require.NotEmpty(t, m.ID)
				require.WithinDuration(t, time.Now(), m.Time, time.Minute)
			})
		}
	})
}

func named(scheme string) func(secrets []string, o verify.Options) (*verify.Verifier, error) {
	return func(secrets []string, o verify.Options) (*verify.Verifier, error) {
		return verify.Scheme(scheme, secrets, o)
	}
}

// genuine publishes an event, whose delivery verifies as it came and in no other way. The error
// is what a recording of it meets.
func genuine(t *testing.T, a *system.Account, r *receivertest.Receiver, v *verify.Verifier, eventType string) (*verify.Message, error) {
	t.Helper()
	a.Publish(t, eventType, `{"id":7,"name":"<Söhne> & Co","n":9007199254740991}`)
	q := r.Next(t)
	_, err := v.Verify(received(t, q), append([]byte(" "), q.Body...))
	require.ErrorIs(t, err, verify.ErrNoMatch)
	m, err := v.Verify(received(t, q), q.Body)
	require.NoError(t, err)
	_, err = v.Verify(received(t, q), q.Body)
	return m, err
}
