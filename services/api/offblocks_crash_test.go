package api_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/httpsig"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/compat/offblocks"
	"github.com/postrider/postrider/services/api/internal/idempotency"
	"github.com/postrider/postrider/test/fixture/logtest"
)

// mortal is a store of a process that dies, for the store, when told to: nothing more is written.
type mortal struct {
	idempotency.Store
	writes atomic.Int64 // that it still makes
}

func (m *mortal) PutIdempotent(ctx context.Context, account, scope, key string, rec *recordv1.IdempotentResult, rev uint64) (uint64, error) {
	if m.writes.Add(-1) < 0 {
		return 0, errors.New("the process is dead")
	}
	return m.Store.PutIdempotent(ctx, account, scope, key, rec, rev)
}

// surfaceOf serves the surface with a keeper of its own, whose clock can be ahead.
func surfaceOf(t *testing.T, r *replica, store idempotency.Store, ahead *atomic.Int64) string {
	t.Helper()
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	server := httptest.NewServer(offblocks.New(offblocks.Deps{
		Conn: r.conn, Keeper: idempotency.New(store, offblocks.KeyKept, now, logtest.New(t)),
		PublicURL: "https://hooks.example.com", Now: time.Now,
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// A process dies after the effect and before the answer is kept. Whoever repeats the request gets
// the answer that the first would have given, and the effect is there once.
func TestOffBlocksGoesOnAfterACrash(t *testing.T) {
	t.Parallel()
	r := newDeployment(t).start(t, "one")
	dying, alive := &mortal{Store: r.store}, &mortal{Store: r.store}
	alive.writes.Store(1000)
	var ahead atomic.Int64
	c := &client{t: t, alg: httpsig.Ed25519, key: generate(t, httpsig.Ed25519), keyID: "k", signAs: "https://hooks.example.com"}
	c.account, c.bearer = r.newAccount(t, "manage", "read")
	uploaded, err := postriderv1.NewSigningKeyServiceClient(r.conn).UploadClientKey(as(t.Context(), c.bearer),
		&postriderv1.UploadClientKeyRequest{PublicKey: publicPEM(t, c.key.Public())})
	require.NoError(t, err)
	c.keyID = uploaded.GetClientKey().GetId()
	first, second := *c, *c
	first.url, second.url = surfaceOf(t, r, dying, &ahead), surfaceOf(t, r, alive, &ahead)
	webhooks := func() []*postriderv1.Webhook {
		list, err := postriderv1.NewWebhookServiceClient(r.conn).ListWebhooks(as(t.Context(), c.bearer), &postriderv1.ListWebhooksRequest{})
		require.NoError(t, err)
		return list.GetWebhooks()
	}
	crash := func(q call) {
		dying.writes.Store(1) // the claim, and no answer
		first.do(q)
		require.Equal(t, http.StatusConflict, second.do(q).status, "it may still run")
		ahead.Add(int64(time.Minute))
	}

	put := call{method: http.MethodPut, path: "/v1/webhooks", body: `{"callbackUrl":"https://example.com/callback"}`, key: uuid.NewString()}
	crash(put)
	require.Len(t, webhooks(), 1)
	got := second.do(put)
	require.Equal(t, http.StatusOK, got.status, got.body)
	var made subscription
	got.into(t, &made)
	require.Len(t, webhooks(), 1, "nothing is made twice")
	require.Equal(t, webhooks()[0].GetUuid(), made.ID)
	require.Equal(t, made.CreatedAt, made.UpdatedAt, "the answer is the one that was not given")
	require.Equal(t, got.body, second.do(put).body)

	remove := call{method: http.MethodDelete, path: "/v1/webhooks/" + made.ID, key: uuid.NewString()}
	crash(remove)
	require.Empty(t, webhooks())
	require.Equal(t, http.StatusNoContent, second.do(remove).status, "the first one deleted it")
	require.Equal(t, http.StatusNoContent, second.do(remove).status)
	none := call{method: http.MethodDelete, path: "/v1/webhooks/" + made.ID, key: uuid.NewString()}
	require.Equal(t, http.StatusNotFound, second.do(none).status)

	// Before the claim there is no effect.
	dying.writes.Store(0)
	put.key = uuid.NewString()
	require.Equal(t, http.StatusInternalServerError, first.do(put).status)
	require.Empty(t, webhooks())
	require.Equal(t, http.StatusOK, second.do(put).status)
}
