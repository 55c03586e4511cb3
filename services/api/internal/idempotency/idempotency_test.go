package idempotency_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/api/internal/idempotency"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestKeysAreReadBareAndQuoted(t *testing.T) {
	t.Parallel()
	const id = "8e03978e-40d5-43dd-bc93-6894a57f9324"
	for name, test := range map[string]struct {
		values []string
		want   string
		err    error
	}{
		"bare":                {[]string{id}, id, nil},
		"quoted":              {[]string{`"` + id + `"`}, id, nil},
		"with parameters":     {[]string{`"` + id + `";a=1`}, id, nil},
		"with an escape":      {[]string{`"a\"b"`}, `a"b`, nil},
		"the longest":         {[]string{strings.Repeat("k", 255)}, strings.Repeat("k", 255), nil},
		"none":                {nil, "", idempotency.ErrMissing},
		"an empty one":        {[]string{""}, "", idempotency.ErrMalformed},
		"an empty string":     {[]string{`""`}, "", idempotency.ErrMalformed},
		"too long":            {[]string{strings.Repeat("k", 256)}, "", idempotency.ErrMalformed},
		"with a space":        {[]string{"a b"}, "", idempotency.ErrMalformed},
		"a space in a string": {[]string{`"a b"`}, "", idempotency.ErrMalformed},
		"not ASCII":           {[]string{"ü"}, "", idempotency.ErrMalformed},
		"an open string":      {[]string{`"abc`}, "", idempotency.ErrMalformed},
		"two":                 {[]string{"a", "b"}, "", idempotency.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := idempotency.ParseKey(http.Header{"Idempotency-Key": test.values})
			require.ErrorIs(t, err, test.err)
			require.Equal(t, test.want, got)
		})
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add("8e03978e-40d5-43dd-bc93-6894a57f9324")
	f.Add(`"a\\b";x=:AA==:`)
	f.Fuzz(func(t *testing.T, value string) {
		key, err := idempotency.ParseKey(http.Header{"Idempotency-Key": {value}})
		if err != nil {
			require.Empty(t, key)
			return
		}
		require.NotEmpty(t, key)
		require.LessOrEqual(t, len(key), 255)
		require.NotContains(t, key, " ")
	})
}

func TestTheFingerprintTellsRequestsApart(t *testing.T) {
	t.Parallel()
	one := idempotency.Fingerprint("PUT", "/a", []byte("b"))
	require.Equal(t, one, idempotency.Fingerprint("PUT", "/a", []byte("b")))
	for _, other := range [][]byte{
		idempotency.Fingerprint("POST", "/a", []byte("b")), idempotency.Fingerprint("PUT", "/b", []byte("b")),
		idempotency.Fingerprint("PUT", "/a", []byte("c")), idempotency.Fingerprint("PUT", "/a\n1\nb", nil),
	} {
		require.NotEqual(t, one, other)
	}
}

// clock is moved by hand.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time        { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) move(by time.Duration) { c.ahead.Add(int64(by)) }

type bundle struct {
	clock  *clock
	server *natstest.Server
	store  *config.Store
	keeper *idempotency.Keeper
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{clock: &clock{}, server: natstest.Start(t)}
	b.store = openStore(t, b.server)
	b.keeper = idempotency.New(b.store, time.Hour, b.clock.now, logtest.New(t))
	return b
}

func openStore(t *testing.T, server *natstest.Server) *config.Store {
	t.Helper()
	c, err := stream.New(server.Connect(t), stream.Default())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	store, err := config.Ensure(t.Context(), c)
	require.NoError(t, err)
	return store
}

func request(payload, id string) idempotency.Request {
	return idempotency.Request{
		Account: "acc_1", Scope: "PUT /x", Key: "k", ResourceID: id,
		Fingerprint: idempotency.Fingerprint("PUT", "/x", []byte(payload)),
	}
}

func answers(status int, body string, calls *[]string) func(context.Context, string) idempotency.Answer {
	return func(_ context.Context, id string) idempotency.Answer {
		*calls = append(*calls, id)
		return idempotency.Answer{Status: status, Headers: map[string]string{"Content-Type": "text/plain"}, Body: []byte(body)}
	}
}

func TestARepeatGetsTheFirstAnswer(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]int{"success": http.StatusOK, "an answer without content": http.StatusNoContent, "a refusal": http.StatusBadRequest, "not found": http.StatusNotFound} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			var calls []string
			first, replayed, err := b.keeper.Do(t.Context(), request("p", "one"), answers(status, "first", &calls))
			require.NoError(t, err)
			require.False(t, replayed)
			// Another replica, which knows nothing but the store.
			other := idempotency.New(openStore(t, b.server), time.Hour, b.clock.now, logtest.New(t))
			second, replayed, err := other.Do(t.Context(), request("p", "two"), answers(http.StatusOK, "second", &calls))
			require.NoError(t, err)
			require.True(t, replayed)
			require.Equal(t, first, second)
			require.Equal(t, []string{"one"}, calls)
			_, _, err = b.keeper.Do(t.Context(), request("another payload", "two"), answers(http.StatusOK, "", &calls))
			require.ErrorIs(t, err, idempotency.ErrOtherRequest)

			b.clock.move(time.Hour)
			_, replayed, err = b.keeper.Do(t.Context(), request("another payload", "three"), answers(http.StatusOK, "", &calls))
			require.NoError(t, err, "the key's time is over")
			require.False(t, replayed)
			require.Equal(t, []string{"one", "three"}, calls)
		})
	}
}

func TestTroubleIsNotKeptButTheIdIs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var calls []string
	for i, status := range []int{500, 503, 401, 403, 429, 409, 200} {
		got, replayed, err := b.keeper.Do(t.Context(), request("p", "id"+string(rune('0'+i))), answers(status, "", &calls))
		require.NoError(t, err)
		require.False(t, replayed)
		require.Equal(t, status, got.Status)
	}
	require.Equal(t, []string{"id0", "id0", "id0", "id0", "id0", "id0", "id0"}, calls, "the effect may have happened under the first id")
}

func TestOneOfManyAtOnceHasTheEffect(t *testing.T) {
	t.Parallel()
	b := setup(t)
	entered, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _, err := b.keeper.Do(t.Context(), request("p", "one"), func(context.Context, string) idempotency.Answer {
			close(entered)
			<-release
			return idempotency.Answer{Status: http.StatusOK}
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-entered
	var calls []string
	for range 3 {
		_, _, err := b.keeper.Do(t.Context(), request("p", "two"), answers(http.StatusOK, "", &calls))
		require.ErrorIs(t, err, idempotency.ErrRunning)
	}
	_, _, err := b.keeper.Do(t.Context(), request("q", "two"), answers(http.StatusOK, "", &calls))
	require.ErrorIs(t, err, idempotency.ErrOtherRequest)
	close(release)
	wg.Wait()
	require.Empty(t, calls)

	var ran atomic.Int64
	r := request("p", "x")
	r.Key = "another"
	for range 16 {
		wg.Go(func() {
			_, _, err := b.keeper.Do(t.Context(), r, func(context.Context, string) idempotency.Answer {
				ran.Add(1)
				return idempotency.Answer{Status: http.StatusOK}
			})
			if err != nil && idempotency.Status(err) != http.StatusConflict {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, ran.Load())
}

// dying is a store through which a process dies at the n-th write.
type dying struct {
	idempotency.Store
	writes int
}

func (d *dying) PutIdempotent(ctx context.Context, account, scope, key string, rec *recordv1.IdempotentResult, rev uint64) (uint64, error) {
	d.writes--
	if d.writes < 0 {
		return 0, context.Canceled
	}
	return d.Store.PutIdempotent(ctx, account, scope, key, rec, rev)
}

func TestAClaimWhoseProcessDiedIsTakenOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var calls []string
	dead := idempotency.New(&dying{b.store, 1}, time.Hour, b.clock.now, logtest.New(t))
	_, _, err := dead.Do(t.Context(), request("p", "one"), answers(http.StatusOK, "never heard", &calls))
	require.NoError(t, err)
	_, _, err = b.keeper.Do(t.Context(), request("p", "two"), answers(http.StatusOK, "", &calls))
	require.ErrorIs(t, err, idempotency.ErrRunning, "it might live")
	b.server.Restart(t)
	b.clock.move(time.Minute)
	got, replayed, err := b.keeper.Do(t.Context(), request("p", "two"), answers(http.StatusOK, "second", &calls))
	require.NoError(t, err)
	require.False(t, replayed)
	require.Equal(t, "second", string(got.Body))
	require.Equal(t, []string{"one", "one"}, calls, "the second goes on with the id of the first")

	before := idempotency.New(&dying{b.store, 0}, time.Hour, b.clock.now, logtest.New(t))
	r := request("p", "three")
	r.Key = "before"
	_, _, err = before.Do(t.Context(), r, answers(http.StatusOK, "", &calls))
	require.Error(t, err, "without a claim there is no effect")
	require.Len(t, calls, 2)
}

func TestWhoIsOvertakenAnswersAsTheOther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var calls []string
	got, _, err := b.keeper.Do(t.Context(), request("p", "one"), func(ctx context.Context, _ string) idempotency.Answer {
		b.clock.move(time.Minute)
		_, _, err := b.keeper.Do(ctx, request("p", "two"), answers(http.StatusOK, "the other's", &calls))
		require.NoError(t, err)
		return idempotency.Answer{Status: http.StatusOK, Body: []byte("ours")}
	})
	require.NoError(t, err)
	require.Equal(t, "the other's", string(got.Body))
}

func TestTheEffectGoesOnWhenTheCallerGoesAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, _, err := b.keeper.Do(ctx, request("p", "one"), func(ctx context.Context, _ string) idempotency.Answer {
		cancel()
		if ctx.Err() != nil {
			return idempotency.Answer{Status: http.StatusInternalServerError}
		}
		return idempotency.Answer{Status: http.StatusOK, Body: []byte("done")}
	})
	require.NoError(t, err)
	var calls []string
	got, replayed, err := b.keeper.Do(t.Context(), request("p", "two"), answers(http.StatusOK, "again", &calls))
	require.NoError(t, err)
	require.True(t, replayed)
	require.Equal(t, "done", string(got.Body))

	r := request("p", "three")
	r.Key = "never begun"
	_, _, err = b.keeper.Do(ctx, r, answers(http.StatusOK, "", &calls))
	require.ErrorIs(t, err, context.Canceled, "who is gone before it begins claims nothing")
	require.Empty(t, calls)
}
