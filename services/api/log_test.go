package api_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// write journals entries and waits until they are stored.
func write(t *testing.T, j *journal.Journal, entries ...*recordv1.JournalEntry) {
	t.Helper()
	w := j.NewWriter("test")
	stored := make(chan error, len(entries))
	for _, e := range entries {
		require.NoError(t, w.Write(t.Context(), journal.Routed, e, func(err error) { stored <- err }))
	}
	require.NoError(t, w.Close(t.Context()))
	for range entries {
		require.NoError(t, <-stored)
	}
}

// otherType is a webhook that wants no event of the type.
const otherType = "wh_00000000000000000000000000"

// routed says that an event gave one delivery, which died without an attempt.
func routed(account string, id postrider.EventID, sequence uint64) (delivery string, entries []*recordv1.JournalEntry) {
	when, _ := id.Time()
	delivery = string(postrider.DeliveryIDFor(id, "wh_1", ""))
	entry := func() *recordv1.JournalEntry {
		return &recordv1.JournalEntry{Time: timestamppb.New(when), AccountId: account, EventId: string(id), EventType: "release.live"}
	}
	first, last := entry(), entry()
	first.What = &recordv1.JournalEntry_Routed{Routed: &recordv1.Routed{
		Deliveries: []*recordv1.RoutedDelivery{{DeliveryId: delivery, WebhookId: "wh_1"}}, MatchedTotal: 1, UnmatchedTotal: 1,
		Unmatched: []*recordv1.Unmatched{{WebhookId: "wh_2", Reason: "event_type"}}, OtherTypes: make([]byte, 16), AcceptTime: timestamppb.New(when),
		EventSequence: sequence, DedupKey: "key:order 4711/a", Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}}
	last.DeliveryId, last.WebhookId = delivery, "wh_1"
	last.What = &recordv1.JournalEntry_Dead{Dead: &recordv1.Dead{Cause: "expired"}}
	return delivery, []*recordv1.JournalEntry{first, last}
}

func (r *rig) awaitDead(t *testing.T, delivery string) {
	t.Helper()
	require.Eventually(t, func() bool {
		resp, err := r.deliveries.GetDelivery(r.ctx(t), &postriderv1.GetDeliveryRequest{DeliveryId: delivery})
		return err == nil && resp.GetDelivery().GetState() == postriderv1.DeliveryState_DELIVERY_STATE_DEAD
	}, patience, 10*time.Millisecond)
}

const patience = time.Minute

func TestALogIsBuiltAgainFromTheJournal(t *testing.T) {
	t.Parallel()
	r := setup(t)
	var deliveries []string
	for range 50 {
		delivery, entries := routed(r.account, postrider.NewEventID(), 1)
		write(t, r.journal, entries...)
		deliveries = append(deliveries, delivery)
	}
	r.awaitDead(t, deliveries[49])
	_, err := r.log.RebuildLog(r.ctx(t), &postriderv1.RebuildLogRequest{})
	requireFault(t, err, fault.Denied, "admin")
	done := make(chan error, 1)
	go func() {
		resp, err := r.log.RebuildLog(as(t.Context(), adminKey), &postriderv1.RebuildLogRequest{})
		if err == nil && resp.GetMessages() == 0 {
			err = errors.New("nothing to record")
		}
		done <- err
	}()
	// Until it is complete it says so, and never that a delivery is not there.
	said := false
	require.Eventually(t, func() bool {
		for _, delivery := range deliveries {
			_, err := r.deliveries.GetDelivery(r.ctx(t), &postriderv1.GetDeliveryRequest{DeliveryId: delivery})
			if err != nil {
				requireFault(t, err, fault.Unavailable, "LOG_REBUILDING")
				said = true
				return false
			}
		}
		return said
	}, patience, time.Millisecond)
	require.NoError(t, <-done)
	status, err := r.log.GetLogStatus(r.ctx(t), &postriderv1.GetLogStatusRequest{})
	require.NoError(t, err)
	require.False(t, status.GetRebuilding())
	require.Equal(t, "sqlite", status.GetStore())
	ledger, err := r.ledger.GetLedger(r.ctx(t), &postriderv1.GetLedgerRequest{})
	require.NoError(t, err)
	require.EqualValues(t, 50, ledger.GetLedger().GetDead())
}

func TestAnEventIsFoundByAnyId(t *testing.T) {
	t.Parallel()
	r := setup(t)
	id := postrider.NewEventID()
	delivery, entries := routed(r.account, id, 1)
	write(t, r.journal, entries...)
	r.awaitDead(t, delivery)
	_, otherKey := r.newAccount(t, "manage", "read")
	for name, c := range map[string]struct {
		id   string
		kind postriderv1.LookUpKind
	}{
		"event":           {string(id), postriderv1.LookUpKind_LOOK_UP_KIND_EVENT},
		"delivery":        {delivery, postriderv1.LookUpKind_LOOK_UP_KIND_DELIVERY},
		"call":            {postrider.DeliveryID(delivery).UUID().String(), postriderv1.LookUpKind_LOOK_UP_KIND_CALL},
		"idempotency key": {"order 4711/a", postriderv1.LookUpKind_LOOK_UP_KIND_IDEMPOTENCY_KEY},
		"trace":           {"0AF7651916CD43DD8448EB211C80319C", postriderv1.LookUpKind_LOOK_UP_KIND_TRACE},
		"traceparent":     {"00-0af7651916cd43dd8448eb211c80319c-0000000000000001-01", postriderv1.LookUpKind_LOOK_UP_KIND_TRACE},
	} {
		resp, err := r.log.LookUp(r.ctx(t), &postriderv1.LookUpRequest{Id: c.id})
		require.NoError(t, err, name)
		require.Len(t, resp.GetMatches(), 1, name)
		require.Equal(t, c.kind, resp.GetMatches()[0].GetKind(), name)
		require.Equal(t, string(id), resp.GetMatches()[0].GetEventId(), name)
		flight, err := r.log.GetFlightRecord(r.ctx(t), &postriderv1.GetFlightRecordRequest{Id: c.id})
		require.NoError(t, err, name)
		require.Len(t, flight.GetRecord().GetUnmatched(), 2, name)
		for i, webhook := range []string{"wh_2", otherType} {
			require.Equal(t, webhook, flight.GetRecord().GetUnmatched()[i].GetWebhookId(), name)
			require.Equal(t, "event_type", flight.GetRecord().GetUnmatched()[i].GetReason(), name)
		}
		require.Equal(t, "expired", flight.GetRecord().GetDeliveries()[0].GetSteps()[0].GetChange().GetReason(), name)
		_, err = r.log.LookUp(as(t.Context(), otherKey), &postriderv1.LookUpRequest{Id: c.id})
		requireFault(t, err, fault.NotFound, "NOT_FOUND")
		_, err = r.log.GetFlightRecord(as(t.Context(), otherKey), &postriderv1.GetFlightRecordRequest{Id: c.id})
		requireFault(t, err, fault.NotFound, "NOT_FOUND")
	}
	_, err := r.log.ExpungeEvent(as(t.Context(), otherKey), &postriderv1.ExpungeEventRequest{EventId: string(id)})
	requireFault(t, err, fault.NotFound, "NOT_FOUND")
	list, err := r.log.ListRecordedEvents(as(t.Context(), otherKey), &postriderv1.ListRecordedEventsRequest{})
	require.NoError(t, err)
	require.Empty(t, list.GetEvents())
	w, err := r.webhooks.CreateWebhook(r.ctx(t), &postriderv1.CreateWebhookRequest{Webhook: &postriderv1.Webhook{Url: "https://example.com/h", EventTypes: []string{"*"}}})
	require.NoError(t, err)
	_, err = r.log.LookUp(r.ctx(t), &postriderv1.LookUpRequest{Id: w.GetWebhook().GetId()})
	require.NoError(t, err)
	_, err = r.log.GetFlightRecord(r.ctx(t), &postriderv1.GetFlightRecordRequest{Id: w.GetWebhook().GetId()})
	requireFault(t, err, fault.Precondition, "AMBIGUOUS_ID")
}

func TestWhatIsExpungedLeavesEveryStream(t *testing.T) {
	t.Parallel()
	r := setup(t)
	id := postrider.NewEventID()
	when, _ := id.Time()
	stored := make(chan eventstream.Stored, 1)
	require.NoError(t, r.events.Publish(t.Context(), &recordv1.Event{
		Id: string(id), AccountId: r.account, Type: "release.live", AcceptTime: timestamppb.New(when), Data: []byte("secret"),
	}, func(s eventstream.Stored, err error) {
		if err == nil {
			stored <- s
		}
	}))
	sequence := (<-stored).Sequence
	delivery, entries := routed(r.account, id, sequence)
	write(t, r.journal, entries[0])
	require.Eventually(t, func() bool {
		_, err := r.log.ExpungeEvent(r.ctx(t), &postriderv1.ExpungeEventRequest{EventId: string(id)})
		e, ok := fault.As(fault.FromStatus(err))
		return ok && e.Reason == "EVENT_IN_FLIGHT"
	}, patience, 10*time.Millisecond)
	buried := make(chan error, 1)
	require.NoError(t, r.letters.Publish(t.Context(), &recordv1.DeadLetter{
		Delivery: &recordv1.Delivery{Id: delivery, AccountId: r.account, WebhookId: "wh_1", EventId: string(id), Data: []byte("secret")},
		Cause:    "expired", Time: timestamppb.New(when),
	}, func(err error) { buried <- err }))
	require.NoError(t, <-buried)
	write(t, r.journal, entries[1])
	r.awaitDead(t, delivery)

	record := func() *postriderv1.FlightRecord {
		resp, err := r.log.GetFlightRecord(r.ctx(t), &postriderv1.GetFlightRecordRequest{Id: string(id), Reveal: true})
		require.NoError(t, err)
		return resp.GetRecord()
	}
	require.Equal(t, "secret", string(record().GetPublished().GetData()))
	for _, first := range []bool{true, false} {
		resp, err := r.log.ExpungeEvent(r.ctx(t), &postriderv1.ExpungeEventRequest{EventId: string(id)})
		require.NoError(t, err)
		require.Equal(t, first, resp.GetEventRemoved())
		require.Equal(t, first, resp.GetDeadLettersRemoved() == 1, fmt.Sprint(resp))
	}
	require.False(t, record().GetKept())
	require.Nil(t, record().GetPublished())
	_, err := r.events.Get(t.Context(), postrider.AccountID(r.account), sequence)
	require.ErrorIs(t, err, eventstream.ErrNotFound)
	_, err = r.deliveries.GetDeadLetter(r.ctx(t), &postriderv1.GetDeadLetterRequest{DeliveryId: delivery})
	requireFault(t, err, fault.NotFound, "NOT_FOUND")
	require.NotNil(t, record().GetEvent().GetExpungeTime(), "who asked sees it at once")
}
