package api_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// journalled writes that routing made n deliveries of one event, and that the first is cancelled.
func (r *rig) journalled(t *testing.T, account string, n int) []*recordv1.RoutedDelivery {
	t.Helper()
	event := postrider.NewEventID()
	var made []*recordv1.RoutedDelivery
	for range n {
		webhook := postrider.NewWebhookID()
		made = append(made, &recordv1.RoutedDelivery{DeliveryId: string(postrider.DeliveryIDFor(event, webhook, "")), WebhookId: string(webhook)})
	}
	w := r.journal.NewWriter("test")
	for _, e := range []*recordv1.JournalEntry{
		{What: &recordv1.JournalEntry_Routed{Routed: &recordv1.Routed{Deliveries: made, MatchedTotal: int32(n)}}},
		{DeliveryId: made[0].GetDeliveryId(), WebhookId: made[0].GetWebhookId(), What: &recordv1.JournalEntry_Cancelled{Cancelled: &recordv1.Cancelled{}}},
	} {
		e.Time, e.AccountId, e.EventId, e.EventType = timestamppb.Now(), account, string(event), "release.live"
		require.NoError(t, w.Write(t.Context(), 0, e, func(err error) {
			if err != nil {
				t.Errorf("write: %v", err)
			}
		}))
	}
	require.NoError(t, w.Close(t.Context()))
	return made
}

func TestEachTermOfTheLedgerIsCountedWhereItIs(t *testing.T) {
	t.Parallel()
	r := setup(t)
	made := r.journalled(t, r.account, 4)
	for i, kind := range []recordv1.RetryKind{recordv1.RetryKind_RETRY_KIND_WAITING, recordv1.RetryKind_RETRY_KIND_HELD} {
		stored := make(chan error, 1)
		require.NoError(t, r.retries.Put(t.Context(), &recordv1.Retry{Kind: kind, DueTime: timestamppb.New(time.Now().Add(time.Hour)), Delivery: &recordv1.Delivery{
			Id: made[i+1].GetDeliveryId(), AccountId: r.account, WebhookId: made[i+1].GetWebhookId(),
		}}, func(_ retrystream.Place, err error) { stored <- err }))
		require.NoError(t, <-stored)
	}
	delivered := make(chan error, 1)
	require.NoError(t, r.queue.Publish(t.Context(), &recordv1.Delivery{
		Id: made[3].GetDeliveryId(), AccountId: r.account, WebhookId: made[3].GetWebhookId(),
	}, func(err error) { delivered <- err }))
	require.NoError(t, <-delivered)

	var last *postriderv1.GetLedgerResponse
	// A consumer's backlog is right a moment after the publishes are acknowledged, so that nothing unrecorded
	// does not say yet that all is recorded.
	require.Eventually(t, func() bool {
		var err error
		last, err = r.ledger.GetLedger(r.ctx(t), &postriderv1.GetLedgerRequest{})
		return err == nil && last.GetUnrecorded() == 0 && last.GetLedger().GetInFlight() == 1 && last.GetLedger().GetRouted() == 4
	}, time.Minute, 100*time.Millisecond, "%v", &last)
	l := last.GetLedger()
	require.Equal(t, r.account, l.GetAccountId())
	require.Equal(t, []int64{4, 0, 0, 1, 1, 1, 1, 0}, []int64{
		l.GetRouted(), l.GetDelivered(), l.GetDead(), l.GetCancelled(), l.GetWaiting(), l.GetHeld(), l.GetInFlight(), l.GetDifference(),
	})

	all, err := r.ledger.ListLedgers(as(t.Context(), adminKey), &postriderv1.ListLedgersRequest{})
	require.NoError(t, err)
	require.Len(t, all.GetLedgers(), 1)
	require.EqualValues(t, 4, all.GetTotal().GetRouted())
}

func TestNobodySeesTheLedgerOfAnotherAccount(t *testing.T) {
	t.Parallel()
	r := setup(t)
	other, otherKey := r.newAccount(t, "read")
	r.journalled(t, r.account, 2)
	_, err := r.ledger.GetLedger(as(t.Context(), otherKey), &postriderv1.GetLedgerRequest{AccountId: r.account})
	requireFault(t, err, fault.NotFound, "no such account")
	mine, err := r.ledger.GetLedger(as(t.Context(), otherKey), &postriderv1.GetLedgerRequest{})
	require.NoError(t, err)
	require.Equal(t, other, mine.GetLedger().GetAccountId())
	require.Zero(t, mine.GetLedger().GetRouted())
	_, err = r.ledger.GetLedger(as(t.Context(), adminKey), &postriderv1.GetLedgerRequest{AccountId: string(postrider.NewAccountID())})
	requireFault(t, err, fault.NotFound, "no account")

	_, err = r.ledger.ListLedgers(r.ctx(t), &postriderv1.ListLedgersRequest{})
	requireFault(t, err, fault.Denied, "admin")
	stream, err := r.ledger.Reconcile(r.ctx(t), &postriderv1.ReconcileRequest{})
	require.NoError(t, err)
	_, err = stream.Recv()
	requireFault(t, err, fault.Denied, "admin")
}

func TestTheLedgerIsServedOverREST(t *testing.T) {
	t.Parallel()
	r := setup(t)
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/ledger", nil)
	req.Header.Set("Authorization", "Bearer "+r.key)
	rec := httptest.NewRecorder()
	r.service.Handler().ServeHTTP(rec, req)
	body, err := io.ReadAll(rec.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, rec.Code, "%s", body)
	require.Contains(t, string(body), `"in_flight":"0"`)
}
