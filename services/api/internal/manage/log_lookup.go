package manage

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/google/uuid"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

// maxMatches is how many matches of an id are named.
const maxMatches = 50

// maxLookUp bounds an id, in bytes.
const maxLookUp = 512

// LookUp says what an id is and where it is.
func (s *Server) LookUp(ctx context.Context, req *postriderv1.LookUpRequest) (*postriderv1.LookUpResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	matches, err := s.lookUp(ctx, account, req.GetId())
	if err != nil {
		return nil, err
	}
	return &postriderv1.LookUpResponse{Matches: matches}, nil
}

// lookUp tries what the form of an id says, and then what has no form: keys and ids that producers
// chose. What another account has is not found.
func (s *Server) lookUp(ctx context.Context, account postrider.AccountID, id string) ([]*postriderv1.LookUpMatch, error) {
	if id = strings.TrimSpace(id); id == "" || len(id) > maxLookUp {
		return nil, invalid("id", "must be 1 to 512 bytes")
	}
	for _, look := range []func(context.Context, postrider.AccountID, string) ([]*postriderv1.LookUpMatch, error){
		s.lookUpForm, s.lookUpUUID, s.lookUpKey, s.lookUpTrace,
	} {
		matches, err := look(ctx, account, id)
		if err != nil && !errors.Is(err, logstore.ErrNotFound) {
			return nil, err
		}
		if len(matches) > 0 {
			latest(matches)
			return matches[:min(len(matches), maxMatches)], nil
		}
	}
	return nil, fault.New(fault.NotFound, "NOT_FOUND", "nothing has the id "+id).WithMetadata("id", id)
}

// lookUpForm looks ids up that say themselves what they are.
func (s *Server) lookUpForm(ctx context.Context, account postrider.AccountID, id string) ([]*postriderv1.LookUpMatch, error) {
	prefix, _, _ := strings.Cut(id, "_")
	switch prefix {
	case "evt":
		return s.lookUpEvent(ctx, account, id)
	case "dlv":
		d, err := s.deps.Log.Delivery(ctx, account, id)
		return one(shownFound(d, postriderv1.LookUpKind_LOOK_UP_KIND_DELIVERY), found(err))
	case "att":
		return s.lookUpAttempt(ctx, account, id)
	case "wh":
		w, err := s.deps.Index.Get(string(account), id)
		return one(&postriderv1.LookUpMatch{
			Kind: postriderv1.LookUpKind_LOOK_UP_KIND_WEBHOOK, WebhookId: id, Time: w.GetWebhook().GetCreateTime(),
		}, known(err))
	}
	if postrider.ReplayID(id).Valid() {
		j, _, err := s.deps.Store.GetJob(ctx, string(account), id)
		return one(&postriderv1.LookUpMatch{
			Kind: postriderv1.LookUpKind_LOOK_UP_KIND_REPLAY, ReplayId: id, Time: j.GetReplay().GetCreateTime(),
		}, known(err))
	}
	return nil, nil
}

// found is an error of the log for the caller; what is not there goes on to be not found.
func found(err error) error {
	if err == nil || errors.Is(err, logstore.ErrNotFound) {
		return err
	}
	return logUnavailable(err)
}

// known is found for the configuration.
func known(err error) error {
	if errors.Is(err, config.ErrNotFound) {
		return logstore.ErrNotFound
	}
	return stored(err, "id", "")
}

func one(m *postriderv1.LookUpMatch, err error) ([]*postriderv1.LookUpMatch, error) {
	if err != nil {
		return nil, err
	}
	return []*postriderv1.LookUpMatch{m}, nil
}

func shownFound(d *logstore.Delivery, kind postriderv1.LookUpKind) *postriderv1.LookUpMatch {
	if d == nil {
		return nil
	}
	return &postriderv1.LookUpMatch{
		Kind: kind, EventId: d.EventID, EventType: d.EventType, DeliveryId: d.ID, WebhookId: d.WebhookID, ReplayId: d.ReplayID,
		Time: shownTime(d.CreateTime), State: shownStates[d.State],
	}
}

// lookUpEvent finds an event in the log, or in the record if the log does not know it yet.
func (s *Server) lookUpEvent(ctx context.Context, account postrider.AccountID, id string) ([]*postriderv1.LookUpMatch, error) {
	e, err := s.deps.Log.Event(ctx, account, id)
	if err == nil {
		return []*postriderv1.LookUpMatch{shownEvent(e, postriderv1.LookUpKind_LOOK_UP_KIND_EVENT)}, nil
	}
	if !errors.Is(err, logstore.ErrNotFound) {
		return nil, logUnavailable(err)
	}
	if !postrider.EventID(id).Valid() {
		return nil, nil
	}
	ev, _, err := s.published(ctx, account, id, 0)
	if err != nil {
		return nil, recordAway("events", err)
	}
	if ev == nil {
		return nil, nil
	}
	return one(&postriderv1.LookUpMatch{
		Kind: postriderv1.LookUpKind_LOOK_UP_KIND_EVENT, EventId: id, EventType: ev.GetType(), Time: ev.GetAcceptTime(),
	}, nil)
}

func shownEvent(e *logstore.Event, kind postriderv1.LookUpKind) *postriderv1.LookUpMatch {
	return &postriderv1.LookUpMatch{Kind: kind, EventId: e.ID, EventType: e.Type, Time: shownTime(e.AcceptTime)}
}

// lookUpAttempt finds an attempt, and its delivery unless it was a test.
func (s *Server) lookUpAttempt(ctx context.Context, account postrider.AccountID, id string) ([]*postriderv1.LookUpMatch, error) {
	delivery, start, err := s.deps.Log.AttemptOwner(ctx, account, id)
	if err != nil {
		return nil, found(err)
	}
	d, err := s.deps.Log.Delivery(ctx, account, delivery)
	if err != nil && !errors.Is(err, logstore.ErrNotFound) {
		return nil, logUnavailable(err)
	}
	m := shownFound(d, postriderv1.LookUpKind_LOOK_UP_KIND_ATTEMPT)
	if m == nil {
		m = &postriderv1.LookUpMatch{Kind: postriderv1.LookUpKind_LOOK_UP_KIND_ATTEMPT, DeliveryId: delivery}
	}
	m.AttemptId, m.Time = id, shownTime(start)
	return one(m, nil)
}

// lookUpUUID finds calls and webhooks by their UUIDs.
func (s *Server) lookUpUUID(ctx context.Context, account postrider.AccountID, id string) ([]*postriderv1.LookUpMatch, error) {
	if _, err := uuid.Parse(id); err != nil {
		return nil, nil //nolint:nilerr // it is something else
	}
	page, err := s.deps.Log.Deliveries(ctx, logstore.Query{Account: account, CallID: id, Limit: maxMatches})
	if err != nil {
		return nil, logUnavailable(err)
	}
	var matches []*postriderv1.LookUpMatch
	for _, d := range page {
		matches = append(matches, shownFound(d, postriderv1.LookUpKind_LOOK_UP_KIND_CALL))
	}
	if w := s.deps.Index.ByUUID(string(account), strings.ToLower(id)); w != "" {
		matches = append(matches, &postriderv1.LookUpMatch{Kind: postriderv1.LookUpKind_LOOK_UP_KIND_WEBHOOK, WebhookId: w})
	}
	return matches, nil
}

// lookUpKey finds events by what their producer gave.
func (s *Server) lookUpKey(ctx context.Context, account postrider.AccountID, id string) ([]*postriderv1.LookUpMatch, error) {
	page, err := s.deps.Log.RecordedEvents(ctx, logstore.EventQuery{Account: account, Key: id, Limit: maxMatches})
	if err != nil {
		return nil, logUnavailable(err)
	}
	var matches []*postriderv1.LookUpMatch
	for _, e := range page {
		kind := postriderv1.LookUpKind_LOOK_UP_KIND_GIVEN_ID
		if key, _ := publishedUnder(e.Routed.GetDedupKey()); key != "" {
			kind = postriderv1.LookUpKind_LOOK_UP_KIND_IDEMPOTENCY_KEY
		}
		matches = append(matches, shownEvent(e, kind))
	}
	return matches, nil
}

var traceForm = regexp.MustCompile(`^(?:[0-9a-f]{2}-)?([0-9a-f]{32})(?:-[0-9a-f]{16}-[0-9a-f]{2})?$`)

// lookUpTrace finds events by the trace that they were accepted in.
func (s *Server) lookUpTrace(ctx context.Context, account postrider.AccountID, id string) ([]*postriderv1.LookUpMatch, error) {
	m := traceForm.FindStringSubmatch(strings.ToLower(id))
	if m == nil {
		return nil, nil
	}
	page, err := s.deps.Log.RecordedEvents(ctx, logstore.EventQuery{Account: account, TraceID: m[1], Limit: maxMatches})
	if err != nil {
		return nil, logUnavailable(err)
	}
	var matches []*postriderv1.LookUpMatch
	for _, e := range page {
		matches = append(matches, shownEvent(e, postriderv1.LookUpKind_LOOK_UP_KIND_TRACE))
	}
	return matches, nil
}
