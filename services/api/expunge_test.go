package api_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api"
)

// secret is what nobody may find any more.
const secret = "the-secret-that-is-expunged"

// streamsWith are the streams that hold the text in any message, as their bytes are stored.
func (r *rig) streamsWith(t *testing.T, text string) (names []string) {
	t.Helper()
	js, err := r.nc.JetStream()
	require.NoError(t, err)
	for name := range js.StreamNames() {
		info, err := js.StreamInfo(name)
		require.NoError(t, err)
		for sequence := info.State.FirstSeq; sequence <= info.State.LastSeq && info.State.Msgs > 0; sequence++ {
			m, err := js.GetMsg(name, sequence)
			if err == nil && bytes.Contains(m.Data, []byte(text)) {
				names = append(names, name)
				break
			}
			if err != nil {
				require.ErrorIs(t, err, nats.ErrMsgNotFound)
			}
		}
	}
	slices.Sort(names)
	return names
}

// tried is the journal of an attempt of the delivery whose bodies hold the secret.
func tried(account string, event postrider.EventID, delivery string, state postrider.DeliveryState) *recordv1.JournalEntry {
	return &recordv1.JournalEntry{
		Time: timestamppb.Now(), AccountId: account, EventId: string(event), EventType: "release.live", DeliveryId: delivery, WebhookId: "wh_1",
		What: &recordv1.JournalEntry_Attempted{Attempted: &recordv1.Attempted{
			AttemptId: string(postrider.NewAttemptID()), Number: 1, StartTime: timestamppb.Now(), Outcome: "retryable", StatusCode: 500, State: string(state), Trigger: "schedule",
			RequestBody: []byte(secret), ResponseBody: []byte("no: " + secret),
		}},
	}
}

func TestAnExpungedPayloadIsNowhereAndWhatHappenedStaysKnown(t *testing.T) {
	t.Parallel()
	r := setup(t, func(d *api.Deps) { d.SettledAfter = time.Nanosecond })
	id := postrider.NewEventID()
	when, _ := id.Time()
	stored := make(chan eventstream.Stored, 1)
	require.NoError(t, r.events.Publish(t.Context(), &recordv1.Event{
		Id: string(id), AccountId: r.account, Type: "release.live", AcceptTime: timestamppb.New(when), Data: []byte(secret),
	}, func(s eventstream.Stored, err error) {
		if err == nil {
			stored <- s
		}
	}))
	delivery, entries := routed(r.account, id, (<-stored).Sequence)
	write(t, r.journal, entries[0])
	write(t, r.journal, tried(r.account, id, delivery, postrider.Waiting))

	// A retry waits: nothing is removed, and it says of which delivery.
	require.Eventually(t, func() bool {
		_, err := r.log.ExpungeEvent(r.ctx(t), &postriderv1.ExpungeEventRequest{EventId: string(id)})
		e, _ := fault.As(fault.FromStatus(err))
		return e != nil && e.Reason == "EVENT_IN_FLIGHT" && e.Metadata["delivery_id"] == delivery && e.Metadata["state"] == string(postrider.Waiting)
	}, patience, 10*time.Millisecond)

	// It ends, as a cancel ends it, and another delivery lies dead.
	other := string(postrider.DeliveryIDFor(id, "wh_3", ""))
	buried := make(chan error, 1)
	require.NoError(t, r.letters.Publish(t.Context(), &recordv1.DeadLetter{
		Delivery: &recordv1.Delivery{Id: delivery, AccountId: r.account, WebhookId: "wh_1", EventId: string(id), Data: []byte(secret)}, Cause: "expired", Time: timestamppb.New(when),
	}, func(err error) { buried <- err }))
	require.NoError(t, <-buried)
	cancelled := tried(r.account, id, other, postrider.Waiting)
	cancelled.WebhookId = "wh_3"
	end := &recordv1.JournalEntry{
		Time: timestamppb.Now(), AccountId: r.account, EventId: string(id), EventType: "release.live", DeliveryId: other, WebhookId: "wh_3",
		What: &recordv1.JournalEntry_Cancelled{Cancelled: &recordv1.Cancelled{Reason: "request"}},
	}
	write(t, r.journal, cancelled, end)
	write(t, r.journal, entries[1])
	r.awaitDead(t, delivery)
	require.Equal(t, []string{"DEADLETTERS", "EVENTS", "JOURNAL"}, r.streamsWith(t, secret))
	record := func() (*postriderv1.FlightRecord, string) {
		resp, err := r.log.GetFlightRecord(r.ctx(t), &postriderv1.GetFlightRecordRequest{Id: string(id), Reveal: true})
		require.NoError(t, err)
		return resp.GetRecord(), resp.GetRecord().String()
	}
	_, text := record()
	require.Equal(t, 5, strings.Count(text, secret), "the event's data, and two bodies of two attempts")

	reader, err := r.accounts.CreateApiKey(r.ctx(t), &postriderv1.CreateApiKeyRequest{Scopes: []string{"read", "payloads"}})
	require.NoError(t, err)
	_, err = r.log.ExpungeEvent(as(t.Context(), reader.GetSecret()), &postriderv1.ExpungeEventRequest{EventId: string(id)})
	requireFault(t, err, fault.Denied, "manage")
	done, err := r.log.ExpungeEvent(r.ctx(t), &postriderv1.ExpungeEventRequest{EventId: string(id)})
	require.NoError(t, err)
	require.True(t, done.GetEventRemoved())
	require.EqualValues(t, 1, done.GetDeadLettersRemoved())
	require.EqualValues(t, 2, done.GetJournalMessagesRewritten())
	require.EqualValues(t, 2, done.GetAttemptsRedacted())

	known := func() {
		t.Helper()
		require.Empty(t, r.streamsWith(t, secret))
		var rec *postriderv1.FlightRecord
		require.Eventually(t, func() bool {
			resp, err := r.log.GetFlightRecord(r.ctx(t), &postriderv1.GetFlightRecordRequest{Id: string(id), Reveal: true})
			rec = resp.GetRecord()
			return err == nil && rec.GetEvent().GetExpungeTime() != nil && len(rec.GetDeliveries()) == 2
		}, patience, 10*time.Millisecond)
		require.NotContains(t, rec.String(), secret)
		ends := map[string]string{}
		for _, d := range rec.GetDeliveries() {
			require.EqualValues(t, 1, d.GetDelivery().GetAttemptCount(), "that it was tried stays known")
			ends[d.GetDelivery().GetId()] = d.GetDelivery().GetState().String() + " " + d.GetDelivery().GetReason()
		}
		require.Equal(t, map[string]string{delivery: "DELIVERY_STATE_DEAD expired", other: "DELIVERY_STATE_CANCELLED request"}, ends)
	}
	known()
	// A log that is built again has it from nowhere, and knows that it was expunged.
	_, err = r.log.RebuildLog(as(t.Context(), adminKey), &postriderv1.RebuildLogRequest{})
	require.NoError(t, err)
	known()

	list, err := r.audit.ListAuditEntries(r.ctx(t), &postriderv1.ListAuditEntriesRequest{})
	require.NoError(t, err)
	var audited []string
	for _, e := range list.GetEntries() {
		if e.GetMethod() == "LogService.ExpungeEvent" && e.GetErrorReason() == "" {
			require.Contains(t, e.GetTargets(), string(id))
			audited = append(audited, e.GetApiKeyId())
		}
	}
	require.Len(t, audited, 1, "who removed it is known")
	require.True(t, strings.HasPrefix(audited[0], "key_"))
}

func TestAnAttemptThatADispatcherMayStillNeedIsNotChanged(t *testing.T) {
	t.Parallel()
	r := setup(t)
	id := postrider.NewEventID()
	delivery, entries := routed(r.account, id, 1)
	write(t, r.journal, entries[0], tried(r.account, id, delivery, postrider.Waiting), entries[1])
	r.awaitDead(t, delivery)
	_, err := r.log.ExpungeEvent(r.ctx(t), &postriderv1.ExpungeEventRequest{EventId: string(id)})
	requireFault(t, err, fault.Unavailable, "JOURNAL_TOO_FRESH")
	e, _ := fault.As(fault.FromStatus(err))
	require.Equal(t, 2*time.Minute, e.RetryAfter, "and it says when to ask again")
}
