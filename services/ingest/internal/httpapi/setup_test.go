package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/services/ingest/internal/admission"
)

const (
	acc      = postrider.AccountID("acc_01J00000000000000000000000")
	oth      = postrider.AccountID("acc_01J00000000000000000000001")
	event1   = "evt_01J00000000000000000000000"
	adminKey = "the-admins-key"
)

// ledger takes every event of a type other than "refused" and "duplicate", and shows what it took.
type ledger struct {
	mu   sync.Mutex
	took []*admission.Request
}

func (l *ledger) Accept(_ context.Context, req *admission.Request) (*postriderv1.Receipt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if req.Event.GetType() == "refused" {
		return nil, fault.InvalidFields(fault.Violation{Field: req.FieldPrefix + "type", Rule: "must be another"})
	}
	l.took = append(l.took, req)
	return &postriderv1.Receipt{
		EventId: event1, Sequence: uint64(len(l.took)), Duplicate: req.Event.GetType() == "duplicate",
		AcceptTime: &timestamppb.Timestamp{Seconds: 1}, DedupWindow: postriderv1.DedupWindow_DEDUP_WINDOW_FULL,
	}, nil
}

func (l *ledger) AcceptAll(ctx context.Context, reqs []*admission.Request) []admission.Verdict {
	verdicts := make([]admission.Verdict, len(reqs))
	for i, r := range reqs {
		verdicts[i].Receipt, verdicts[i].Err = l.Accept(ctx, r)
	}
	return verdicts
}

func (l *ledger) Read(_ context.Context, account postrider.AccountID, id postrider.EventID, sequence uint64) (*postriderv1.Event, error) {
	if account != acc || id != event1 {
		return nil, fault.New(fault.NotFound, "EVENT_NOT_FOUND", "there is no such event")
	}
	return &postriderv1.Event{Id: string(id), AccountId: string(account), Data: []byte(`{"a":1}`), Sequence: max(sequence, 7)}, nil
}

// bundle is the API with keys of every kind.
type bundle struct {
	handler http.Handler
	ledger  *ledger
	// Authorization headers.
	publish, read, manage, admin string
}

func setup(t testing.TB) *bundle {
	t.Helper()
	b := &bundle{ledger: &ledger{}, admin: "Bearer " + adminKey}
	api, err := New(b.ledger, Config{MaxDataBytes: 1 << 10, MaxBatch: 3, MaxBatchBytes: 1 << 20})
	require.NoError(t, err)
	auth := access.NewAuthenticator(adminKey)
	key := func(scope postrider.Scope) string {
		id, secret := access.NewKeySecret()
		auth.PutKey(&recordv1.Key{
			Key: &postriderv1.ApiKey{Id: id, AccountId: string(acc), Scopes: []string{string(scope)}}, Hash: access.HashKey(secret),
		})
		return "Bearer " + secret
	}
	b.publish, b.read, b.manage = key(postrider.ScopePublish), key(postrider.ScopeRead), key(postrider.ScopeManage)
	b.handler = api.Handler(auth, nil)
	return b
}

// request is a POST of a body; header holds names and values in turn.
func (b *bundle) post(t testing.TB, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	return b.do(t, http.MethodPost, "/v1/events", body, append([]string{"Authorization", b.publish}, header...)...)
}

func (b *bundle) do(t testing.TB, method, target, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	return w
}

// taken is the only request that was accepted.
func (b *bundle) taken(t testing.TB) *admission.Request {
	t.Helper()
	b.ledger.mu.Lock()
	defer b.ledger.mu.Unlock()
	require.Len(t, b.ledger.took, 1)
	return b.ledger.took[0]
}

// problem is a body of problem details.
type problem struct {
	Status    int
	Detail    string
	Reason    string
	RequestID string `json:"request_id"`
	Errors    []struct{ Pointer, Detail string }
}

func problemOf(t testing.TB, w *httptest.ResponseRecorder, status int, reason string) problem {
	t.Helper()
	require.Equal(t, status, w.Code, w.Body.String())
	require.Equal(t, fault.ProblemContentType, w.Header().Get("Content-Type"))
	var p problem
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
	require.Equal(t, status, p.Status)
	require.Equal(t, reason, p.Reason)
	return p
}
