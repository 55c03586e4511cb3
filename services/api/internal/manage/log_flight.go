package manage

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

// journalRouted is where the API journals what is about an event as a whole.
const journalRouted = journal.Routed

var errNoLetter = deadletterstream.ErrNotFound

// Bounds of a flight record.
const (
	maxFlightDeliveries = 100
	maxFlightSteps      = 200
)

// GetFlightRecord puts together what the log and the record of events say of one event.
func (s *Server) GetFlightRecord(ctx context.Context, req *postriderv1.GetFlightRecordRequest) (*postriderv1.GetFlightRecordResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	if req.GetReveal() {
		p, err := access.FromContext(ctx)
		if err == nil {
			err = p.Require(postrider.ScopePayloads)
		}
		if err != nil {
			return nil, err
		}
	}
	m, err := s.oneEvent(ctx, account, req.GetId())
	if err != nil {
		return nil, err
	}
	record, data, err := s.flightOf(ctx, account, m.GetEventId(), req.GetReveal())
	if err != nil {
		return nil, err
	}
	q := logstore.Query{Account: account, EventID: m.GetEventId(), Limit: maxFlightDeliveries + 1}
	deliveries, err := s.deps.Log.Deliveries(ctx, q)
	if err != nil {
		return nil, logUnavailable(err)
	}
	if m.GetDeliveryId() != "" {
		deliveries = slices.DeleteFunc(deliveries, func(d *logstore.Delivery) bool { return d.ID != m.GetDeliveryId() })
		if len(deliveries) == 0 {
			d, err := s.deps.Log.Delivery(ctx, account, m.GetDeliveryId())
			if err != nil {
				return nil, logFault(err, m.GetDeliveryId())
			}
			deliveries = append(deliveries, d)
		}
	}
	if len(deliveries) > maxFlightDeliveries {
		deliveries, record.MoreDeliveries = deliveries[:maxFlightDeliveries], true
	}
	slices.Reverse(deliveries)
	for _, d := range deliveries {
		flight, err := s.deliveryFlight(ctx, d, req.GetReveal(), data)
		if err != nil {
			return nil, err
		}
		record.Deliveries = append(record.Deliveries, flight)
	}
	return &postriderv1.GetFlightRecordResponse{Record: record}, nil
}

// oneEvent is what an id leads to, if that is one event.
func (s *Server) oneEvent(ctx context.Context, account postrider.AccountID, id string) (*postriderv1.LookUpMatch, error) {
	matches, err := s.lookUp(ctx, account, id)
	if err != nil {
		return nil, err
	}
	events := make(map[string]bool)
	for _, m := range matches {
		events[m.GetEventId()] = true
	}
	if len(events) != 1 || events[""] {
		return nil, fault.New(fault.Precondition, "AMBIGUOUS_ID", "the id leads to no single event; LookUp names what it is").WithMetadata("id", id)
	}
	m := matches[0]
	if len(matches) > 1 {
		m.DeliveryId = ""
	}
	return m, nil
}

// unmatchedOf is the webhooks that did not match, those with more to say about first.
func unmatchedOf(r *recordv1.Routed) (list []*postriderv1.UnmatchedWebhook) {
	for _, u := range r.GetUnmatched() {
		list = append(list, &postriderv1.UnmatchedWebhook{WebhookId: u.GetWebhookId(), Reason: u.GetReason(), Detail: u.GetDetail()})
	}
	for id := range slices.Chunk(r.GetOtherTypes(), len(ulid.ULID{})) {
		if len(id) == len(ulid.ULID{}) {
			list = append(list, &postriderv1.UnmatchedWebhook{WebhookId: string(postrider.WebhookIDOf(ulid.ULID(id))), Reason: "event_type"})
		}
	}
	return list
}

// flightOf is the record of an event without its deliveries, and the event's data, if they are kept.
func (s *Server) flightOf(ctx context.Context, account postrider.AccountID, id string, reveal bool) (*postriderv1.FlightRecord, []byte, error) {
	record := &postriderv1.FlightRecord{Revealed: reveal}
	e, err := s.deps.Log.Event(ctx, account, id)
	switch {
	case errors.Is(err, logstore.ErrNotFound):
		e = &logstore.Event{ID: id, Account: account}
	case err != nil:
		return nil, nil, logUnavailable(err)
	}
	record.Event, record.DedupWindow = shownRecorded(e), e.Routed.GetDedupWindow()
	record.Unmatched = unmatchedOf(e.Routed)
	ev, sequence, err := s.published(ctx, account, id, e.Sequence)
	if err != nil {
		return nil, nil, recordAway("events", err)
	}
	if ev == nil {
		return record, nil, nil
	}
	record.Kept, record.DataSize = true, int64(len(ev.GetData()))
	record.Published = shownPublished(ev, sequence, reveal)
	shown := record.GetEvent()
	if e.Type == "" { // accepted, and not routed or not recorded yet
		shown.Type, shown.Sequence, shown.AcceptTime = ev.GetType(), sequence, ev.GetAcceptTime()
		shown.IdempotencyKey, shown.GivenId = publishedUnder(ev.GetDedupKey())
		record.DedupWindow = ev.GetDedupWindow()
	}
	return record, ev.GetData(), nil
}

// published reads an event from the record; nil if it is not kept any more.
func (s *Server) published(ctx context.Context, account postrider.AccountID, id string, sequence uint64) (*recordv1.Event, uint64, error) {
	ev, err := s.deps.Events.Get(ctx, account, sequence)
	if err == nil && ev.GetId() == id && ev.GetAccountId() == string(account) {
		return ev, sequence, nil
	}
	if err != nil && !errors.Is(err, eventstream.ErrNotFound) {
		return nil, 0, err
	}
	if sequence != 0 && err != nil {
		return nil, 0, nil //nolint:nilerr // removed; sequences are given once
	}
	ev, sequence, err = s.deps.Events.Find(ctx, account, postrider.EventID(id))
	if errors.Is(err, eventstream.ErrNotFound) {
		return nil, 0, nil
	}
	return ev, sequence, err
}

// publishedUnder takes a deduplication key apart: an idempotency key, or the producer's own id.
func publishedUnder(dedupKey string) (idempotencyKey, givenID string) {
	if key, ok := strings.CutPrefix(dedupKey, "key:"); ok {
		return key, ""
	}
	_, givenID, _ = strings.Cut(dedupKey, "\x00")
	return "", givenID
}

func shownPublished(ev *recordv1.Event, sequence uint64, reveal bool) *postriderv1.Event {
	out := &postriderv1.Event{
		Id: ev.GetId(), AccountId: ev.GetAccountId(), GivenId: ev.GetGivenId(), Source: ev.GetSource(), Type: ev.GetType(), Time: ev.GetTime(),
		Labels: ev.GetLabels(), ContentType: ev.GetContentType(), OrderingKey: ev.GetOrderingKey(), DeliverAt: ev.GetDeliverAt(),
		AcceptTime: ev.GetAcceptTime(), Sequence: sequence, Extensions: ev.GetExtensions(),
	}
	if reveal {
		out.Data = ev.GetData()
	}
	return out
}

// deliveryFlight is what happened to a delivery, in the order of time.
func (s *Server) deliveryFlight(ctx context.Context, d *logstore.Delivery, reveal bool, data []byte) (*postriderv1.DeliveryFlight, error) {
	attempts, err := s.deps.Log.Attempts(ctx, d.Account, d.ID, 0, maxFlightSteps+1)
	if err != nil {
		return nil, logUnavailable(err)
	}
	moves, err := s.deps.Log.Moves(ctx, d.Account, d.ID, maxFlightSteps+1)
	if err != nil {
		return nil, logUnavailable(err)
	}
	out := &postriderv1.DeliveryFlight{Delivery: shownDelivery(d)}
	for _, a := range attempts {
		shown := shownAttempt(a, reveal)
		if reveal && shown.GetRequestBodyIsData() {
			shown.RequestBody = data[:min(len(data), maxShownBody)]
			shown.RequestBodyTruncated = len(data) > maxShownBody
		}
		out.Steps = append(out.Steps, &postriderv1.FlightStep{Time: shown.GetStartTime(), What: &postriderv1.FlightStep_Attempt{Attempt: shown}})
	}
	for _, m := range moves {
		out.Steps = append(out.Steps, &postriderv1.FlightStep{Time: timestamppb.New(m.Time), What: &postriderv1.FlightStep_Change{Change: &postriderv1.StateChange{
			State: shownStates[m.State], Reason: m.Reason, Series: int32(m.Series), NextAttemptTime: shownTime(m.NextAttemptTime), //nolint:gosec // one for each redrive
		}}})
	}
	slices.SortStableFunc(out.GetSteps(), func(a, b *postriderv1.FlightStep) int {
		return a.GetTime().AsTime().Compare(b.GetTime().AsTime())
	})
	if len(out.GetSteps()) > maxFlightSteps {
		out.Steps, out.MoreSteps = out.GetSteps()[:maxFlightSteps], true
	}
	return out, nil
}

// maxShownBody is how much of a request's body is shown, as of one that is recorded.
const maxShownBody = 16 << 10

// masked stands in for what the caller may not see, or did not ask for.
const masked = "***"

// secretHeaders are what the names of headers hold by which a request or an answer proves who sent it.
var secretHeaders = []string{"auth", "token", "secret", "key", "password", "cookie", "credential", "session", "signature"}

// maskAttempt takes out what an attempt holds.
func maskAttempt(a *postriderv1.Attempt) {
	a.RequestBody, a.ResponseBody, a.Masked = nil, nil, true
	for _, headers := range []map[string]string{a.GetRequestHeaders(), a.GetResponseHeaders()} {
		for name := range headers {
			lower := strings.ToLower(name)
			if slices.ContainsFunc(secretHeaders, func(word string) bool { return strings.Contains(lower, word) }) {
				headers[name] = masked
			}
		}
	}
}

// latest orders matches, the latest first.
func latest(matches []*postriderv1.LookUpMatch) {
	slices.SortStableFunc(matches, func(a, b *postriderv1.LookUpMatch) int {
		return cmp.Or(b.GetTime().AsTime().Compare(a.GetTime().AsTime()), strings.Compare(a.GetEventId(), b.GetEventId()))
	})
}
