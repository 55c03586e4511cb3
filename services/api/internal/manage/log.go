package manage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/journal"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
	"github.com/postrider/postrider/services/api/internal/recorder"
)

// Recorder is what the API asks of the recorder.
type Recorder interface {
	Status(ctx context.Context) (recorder.Status, error)
	Rebuild(ctx context.Context) (messages int64, err error)
}

// Journal is what the API changes in the journal.
type Journal interface {
	Rewrite(ctx context.Context, since time.Time, settled time.Duration, strip func(*recordv1.JournalEntry) bool) (int, error)
}

// Entries is where the API says what happened.
type Entries interface {
	Write(ctx context.Context, shard int, e *recordv1.JournalEntry, done func(error)) error
}

// logFault turns an error of the delivery log into what the caller sees.
func logFault(err error, id string) error {
	if errors.Is(err, logstore.ErrNotFound) {
		return fault.New(fault.NotFound, "NOT_FOUND", "the delivery log has no "+id).WithMetadata("id", id)
	}
	return logUnavailable(err)
}

// mayReveal reports whether the caller may see what events and attempts hold.
func mayReveal(ctx context.Context) bool {
	p, err := access.FromContext(ctx)
	return err == nil && p.Allows(postrider.ScopePayloads)
}

// ListRecordedEvents lists the events of the log, the last accepted first.
func (s *Server) ListRecordedEvents(ctx context.Context, req *postriderv1.ListRecordedEventsRequest) (*postriderv1.ListRecordedEventsResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	q := logstore.EventQuery{
		Account: account, EventType: req.GetEventType(), Unmatched: req.GetUnmatchedOnly(), Limit: size + 1,
		Start: optionalTime(req.GetStartTime()), End: optionalTime(req.GetEndTime()),
	}
	bind := []string{"events", string(account), q.EventType, fmt.Sprint(q.Unmatched, q.Start.UnixMicro(), q.End.UnixMicro())}
	if q.Before, err = parsePageToken(req.GetPageToken(), bind...); err != nil {
		return nil, err
	}
	page, err := s.deps.Log.RecordedEvents(ctx, q)
	if err != nil {
		return nil, logUnavailable(err)
	}
	resp := &postriderv1.ListRecordedEventsResponse{}
	for i, e := range page {
		if i == size {
			resp.NextPageToken = pageToken(page[i-1].ID, bind...)
			break
		}
		resp.Events = append(resp.Events, shownRecorded(e))
	}
	return resp, nil
}

func shownRecorded(e *logstore.Event) *postriderv1.RecordedEvent {
	key, given := publishedUnder(e.Routed.GetDedupKey())
	return &postriderv1.RecordedEvent{
		Id: e.ID, AccountId: string(e.Account), Type: e.Type, Sequence: e.Sequence,
		AcceptTime: shownTime(e.AcceptTime), RouteTime: shownTime(e.RouteTime),
		MatchedCount: int32(e.Matched), UnmatchedCount: int32(e.UnmatchedMany), //nolint:gosec // webhooks of one account
		IdempotencyKey: key, GivenId: given, TraceId: e.TraceID, ExpungeTime: shownTime(e.ExpungeTime),
	}
}

// GetLogStatus says how far the log is behind the journal.
func (s *Server) GetLogStatus(ctx context.Context, _ *postriderv1.GetLogStatusRequest) (*postriderv1.GetLogStatusResponse, error) {
	status, err := s.deps.Recorder.Status(ctx)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "JOURNAL_UNAVAILABLE", "the journal cannot be asked now").WithCause(err)
	}
	resp := &postriderv1.GetLogStatusResponse{
		Store: s.deps.Log.Kind(), Unrecorded: status.Pending, Rebuilding: s.deps.Log.Incomplete() != 0,
		RecordedSequence: status.Recorded, JournalSequence: status.Last,
	}
	if !status.Oldest.IsZero() {
		resp.Lag = durationpb.New(max(0, s.deps.Now().Sub(status.Oldest)))
	}
	if s.deps.LogRetention > 0 {
		resp.Retention = durationpb.New(s.deps.LogRetention)
	}
	return resp, nil
}

// RebuildLog drops the log; the recorder builds it again.
func (s *Server) RebuildLog(ctx context.Context, _ *postriderv1.RebuildLogRequest) (*postriderv1.RebuildLogResponse, error) {
	messages, err := s.deps.Recorder.Rebuild(ctx)
	if err != nil {
		return nil, logUnavailable(err)
	}
	s.deps.Logger.InfoContext(ctx, "the delivery log is being built again", "messages", messages)
	return &postriderv1.RebuildLogResponse{Messages: messages}, nil
}

// SettledAfter is how old what the journal says of an attempt must be before it may be changed: older
// than what a dispatcher reads that takes a shard over.
const SettledAfter = 2 * time.Minute

// ExpungeEvent removes what an event held from the streams and then from the log: where a crash in
// between leaves something, it leaves the log knowing of the event, so that the call can be repeated.
func (s *Server) ExpungeEvent(ctx context.Context, req *postriderv1.ExpungeEventRequest) (*postriderv1.ExpungeEventResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	id := postrider.EventID(req.GetEventId())
	if !id.Valid() {
		return nil, invalid("event_id", `must be "evt_" and a ULID`)
	}
	e, err := s.deps.Log.Event(ctx, account, string(id))
	if err != nil {
		return nil, logFault(err, string(id))
	}
	resp := &postriderv1.ExpungeEventResponse{}
	deliveries, err := s.endedDeliveries(ctx, e)
	if err != nil {
		return nil, err
	}
	rewritten, err := s.deps.Journal.Rewrite(ctx, e.AcceptTime.Add(-acceptLead), s.deps.SettledAfter, func(entry *recordv1.JournalEntry) bool {
		return entry.GetEventId() == e.ID && entry.GetAccountId() == string(account) && entry.GetAttempted() != nil && logstore.Strip(entry.GetAttempted())
	})
	if resp.JournalMessagesRewritten = int32(rewritten); err != nil { //nolint:gosec // attempts of one event
		return nil, s.expungeFailed(err)
	}
	for _, d := range deliveries {
		if resp.DeadLettersRemoved, err = s.eraseLetter(ctx, account, d, resp.GetDeadLettersRemoved()); err != nil {
			return nil, err
		}
	}
	if resp.EventRemoved, err = s.eraseEvent(ctx, e); err != nil {
		return nil, recordAway("events", err)
	}
	redactedAttempts, err := s.deps.Log.Redact(ctx, account, e.ID)
	if resp.AttemptsRedacted = int32(redactedAttempts); err != nil { //nolint:gosec // attempts of one event
		return nil, logUnavailable(err)
	}
	return resp, s.noteExpunged(ctx, e)
}

// expungeFailed tells who asked too early to ask again.
func (s *Server) expungeFailed(err error) error {
	if errors.Is(err, journal.ErrTooFresh) {
		return fault.New(fault.Unavailable, "JOURNAL_TOO_FRESH", "an attempt of the event was recorded within the last "+s.deps.SettledAfter.String()+", and its record may still be needed; ask again after that").
			WithCause(err).WithRetryAfter(s.deps.SettledAfter)
	}
	f := fault.New(fault.Unavailable, "JOURNAL_UNAVAILABLE", "the journal could not be changed; ask again").WithCause(err)
	return f.WithRetryAfter(s.deps.SettledAfter)
}

// endedDeliveries is all deliveries of an event; an error if one has not ended.
func (s *Server) endedDeliveries(ctx context.Context, e *logstore.Event) ([]*logstore.Delivery, error) {
	q := logstore.Query{Account: e.Account, EventID: e.ID, Limit: cancelPage}
	var all []*logstore.Delivery
	for {
		page, err := s.deps.Log.Deliveries(ctx, q)
		if err != nil {
			return nil, logUnavailable(err)
		}
		for _, d := range page {
			if !d.State.Ended() {
				return nil, fault.New(fault.Precondition, "EVENT_IN_FLIGHT", "a delivery of the event is "+string(d.State)+": cancel it, or wait for its end").
					WithMetadata("delivery_id", d.ID).WithMetadata("state", string(d.State))
			}
		}
		all = append(all, page...)
		if len(page) < q.Limit {
			return all, nil
		}
		last := page[len(page)-1]
		q.After = logstore.Cursor{CreateTime: last.CreateTime, ID: last.ID}
	}
}

// eraseLetter removes a delivery's dead letter and counts it.
func (s *Server) eraseLetter(ctx context.Context, account postrider.AccountID, d *logstore.Delivery, n int32) (int32, error) {
	for {
		_, sequence, err := s.deps.DeadLetters.Get(ctx, account, postrider.DeliveryID(d.ID))
		if errors.Is(err, errNoLetter) {
			return n, nil
		}
		if err == nil {
			err = s.deps.DeadLetters.Erase(ctx, sequence)
		}
		if err != nil && !errors.Is(err, errNoLetter) {
			return n, recordAway("dead letters", err)
		}
		n++
	}
}

// eraseEvent removes the event from the record, if its place holds it still.
func (s *Server) eraseEvent(ctx context.Context, e *logstore.Event) (bool, error) {
	_, sequence, err := s.published(ctx, e.Account, e.ID, e.Sequence)
	if err != nil || sequence == 0 {
		return false, err
	}
	return s.deps.Events.Erase(ctx, e.Account, sequence)
}

// noteExpunged says in the journal that it was done, and then in this process' log, where the recorder
// would say it in a moment: who asked looks there next.
func (s *Server) noteExpunged(ctx context.Context, e *logstore.Event) error {
	stored := make(chan error, 1)
	entry := &recordv1.JournalEntry{
		Time: timestamppb.New(s.deps.Now()), AccountId: string(e.Account), EventId: e.ID, EventType: e.Type,
		What: &recordv1.JournalEntry_Expunged{Expunged: &recordv1.Expunged{Reason: "request"}},
	}
	err := s.deps.Entries.Write(ctx, journalRouted, entry, func(err error) { stored <- err })
	if err == nil {
		select {
		case err = <-stored:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		return s.expungeFailed(err)
	}
	if err := s.deps.Log.Apply(ctx, []*recordv1.JournalEntry{entry}); err != nil {
		s.deps.Logger.WarnContext(ctx, "the delivery log says later that an event was expunged", "error", err)
	}
	return nil
}
