package webhookindex_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/config"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/webhookindex"
	"github.com/postrider/postrider/test/fixture/logtest"
)

// plain opens a secret whose ciphertext is its text.
func plain(_, _ string, sealed *recordv1.SealedSecret) (string, error) {
	if len(sealed.GetCiphertext()) == 0 {
		return "", errors.New("nothing to open")
	}
	return string(sealed.GetCiphertext()), nil
}

func webhook(account, id, uuid string, number int64, tokens ...string) *recordv1.Webhook {
	rec := &recordv1.Webhook{Webhook: &postriderv1.Webhook{Id: id, AccountId: account, Uuid: uuid, Number: number, Profile: webhookindex.TokenProfile}}
	for _, text := range tokens {
		rec.Secrets = append(rec.Secrets, &recordv1.SealedSecret{Ciphertext: []byte(text)})
	}
	return rec
}

func TestTokensLiveAsLongAsTheirWebhookAndTheirGrace(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	x := webhookindex.New(plain, func() time.Time { return now }, logtest.New(t))
	require.False(t, x.Live(""))
	x.Put(webhook("acc", "wh_1", "u1", 1, "one"), 1)
	require.True(t, x.Live("one"))
	require.False(t, x.Live("on"))

	rotated := webhook("acc", "wh_1", "u1", 1, "two", "one")
	rotated.Secrets[1].ExpireTime = timestamppb.New(now.Add(time.Hour))
	x.Put(rotated, 2)
	require.True(t, x.Live("one"), "in its time of grace")
	require.True(t, x.Live("two"))
	now = now.Add(time.Hour)
	require.False(t, x.Live("one"))
	require.True(t, x.Live("two"))

	x.Put(webhook("acc", "wh_2", "u2", 2, "two"), 3)
	x.Delete("acc", "wh_1", 4)
	require.True(t, x.Live("two"), "the other webhook was given the same")
	x.Delete("acc", "wh_2", 5)
	require.False(t, x.Live("two"))
}

func TestOnlyTokensAreOpened(t *testing.T) {
	t.Parallel()
	x := webhookindex.New(plain, time.Now, logtest.New(t))
	standard := webhook("acc", "wh_1", "u1", 1, "secret")
	standard.Webhook.Profile = "standard"
	x.Put(standard, 1)
	require.False(t, x.Live("secret"))
	x.Put(webhook("acc", "wh_2", "u2", 2, ""), 2) // cannot be opened
	require.False(t, x.Live(""))
}

func TestAUUIDThatWasGivenAgainBelongsToTheNewerWebhook(t *testing.T) {
	t.Parallel()
	x := webhookindex.New(plain, time.Now, logtest.New(t))
	x.Put(webhook("acc", "wh_1", "u", 1), 1)
	x.Put(webhook("acc", "wh_2", "u", 2), 2)
	x.Delete("acc", "wh_1", 3)
	require.Equal(t, "wh_2", x.ByUUID("acc", "u"))
	require.Empty(t, x.ByUUID("other", "u"))
	require.Equal(t, "wh_2", x.ByNumber("acc", 2))
	require.Empty(t, x.ByNumber("other", 2))
	require.Empty(t, x.ByNumber("acc", 1))
}

func TestTheIndexHasWhatAMapWouldHave(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		x := webhookindex.New(plain, time.Now, logtest.New(t))
		model := map[string]*recordv1.Webhook{}
		for revision := range rapid.IntRange(0, 60).Draw(rt, "steps") {
			n := rapid.IntRange(0, 9).Draw(rt, "webhook")
			id, account := fmt.Sprintf("wh_%d", n), fmt.Sprintf("acc_%d", n%2)
			if rapid.Bool().Draw(rt, "delete") {
				x.Delete(account, id, uint64(revision))
				delete(model, id)
				continue
			}
			model[id] = webhook(account, id, "u"+id, int64(n+1), fmt.Sprint("token", revision))
			x.Put(model[id], uint64(revision))
		}
		for _, account := range []string{"acc_0", "acc_1"} {
			var want []string
			for id, rec := range model {
				if rec.GetWebhook().GetAccountId() == account {
					want = append(want, id)
				}
			}
			slices.Sort(want)
			var got []string
			for after := ""; ; {
				page, err := x.List(account, after, 2)
				if err != nil {
					rt.Fatal(err)
				}
				for _, each := range page {
					got = append(got, each.Record.GetWebhook().GetId())
				}
				if len(page) < 2 {
					break
				}
				after = got[len(got)-1]
			}
			if !slices.Equal(want, got) {
				rt.Fatalf("want %v, got %v", want, got)
			}
		}
		for n := range 10 {
			id, account := fmt.Sprintf("wh_%d", n), fmt.Sprintf("acc_%d", n%2)
			rec, err := x.Get(account, id)
			if model[id] == nil {
				if !errors.Is(err, config.ErrNotFound) || x.ByNumber(account, int64(n+1)) != "" || x.ByUUID(account, "u"+id) != "" {
					rt.Fatalf("%s is still there", id)
				}
				continue
			}
			if err != nil || rec.GetWebhook().GetId() != id || !x.Live(string(rec.GetSecrets()[0].GetCiphertext())) {
				rt.Fatalf("%s is not there", id)
			}
		}
	})
}
