package manage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/match"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const (
	defaultReplayRate = 100
	maxReplayRate     = 10_000
	maxReplayTypes    = 64
	maxReplayLetters  = 1000
	// acceptLead is how much earlier than its acceptance says an event may be stored: by another
	// machine's clock.
	acceptLead = time.Minute
)

// CreateReplay begins to deliver events again.
func (s *Server) CreateReplay(ctx context.Context, req *postriderv1.CreateReplayRequest) (*postriderv1.CreateReplayResponse, error) {
	account, err := s.existingAccount(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	sel := req.GetEvents()
	if v := append(checkEventSelection(sel), checkReplay(req.GetRate(), req.GetReplayId())...); len(v) > 0 {
		return nil, fault.InvalidFields(v...)
	}
	if err := s.knowsWebhook(ctx, account.GetId(), sel.GetWebhookId()); err != nil {
		return nil, err
	}
	job := newJob(account.GetId(), req.GetReplayId(), req.GetRate())
	job.Replay.Selection = &postriderv1.Replay_Events{Events: sel}
	if err := s.boundEvents(ctx, job, sel); err != nil {
		return nil, err
	}
	if req.GetDryRun() {
		preview, err := s.preview(ctx, job)
		return &postriderv1.CreateReplayResponse{Preview: preview}, err
	}
	replay, err := s.createJob(ctx, job)
	return &postriderv1.CreateReplayResponse{Replay: replay}, err
}

// RedriveDeadLetters begins to make dead letters deliveries again.
func (s *Server) RedriveDeadLetters(ctx context.Context, req *postriderv1.RedriveDeadLettersRequest) (*postriderv1.RedriveDeadLettersResponse, error) {
	account, err := s.existingAccount(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	sel := req.GetDeadLetters()
	if v := append(checkLetterSelection(sel), checkReplay(req.GetRate(), req.GetReplayId())...); len(v) > 0 {
		return nil, fault.InvalidFields(v...)
	}
	if sel == nil {
		sel = &postriderv1.DeadLetterSelection{}
	}
	if err := s.knowsWebhook(ctx, account.GetId(), sel.GetWebhookId()); err != nil {
		return nil, err
	}
	// A delivery that is named twice is one.
	slices.Sort(sel.DeliveryIds)
	sel.DeliveryIds = slices.Compact(sel.DeliveryIds)
	job := newJob(account.GetId(), req.GetReplayId(), req.GetRate())
	job.Replay.Selection = &postriderv1.Replay_DeadLetters{DeadLetters: sel}
	job.NextSequence = 1
	if job.LastSequence = uint64(len(sel.GetDeliveryIds())); job.LastSequence == 0 {
		if job.LastSequence, err = s.deps.DeadLetters.LastSequence(ctx); err != nil {
			return nil, recordAway("dead letters", err)
		}
	}
	if req.GetDryRun() {
		preview, err := s.preview(ctx, job)
		return &postriderv1.RedriveDeadLettersResponse{Preview: preview}, err
	}
	replay, err := s.createJob(ctx, job)
	return &postriderv1.RedriveDeadLettersResponse{Replay: replay}, err
}

func newJob(account, id string, rate float64) *recordv1.Job {
	if id == "" {
		id = string(postrider.NewReplayID())
	}
	if rate == 0 {
		rate = defaultReplayRate
	}
	return &recordv1.Job{Replay: &postriderv1.Replay{
		Id: id, AccountId: account, Rate: rate, State: postriderv1.ReplayState_REPLAY_STATE_RUNNING,
	}}
}

// boundEvents says from where to where the events are looked at: what is accepted after that is not
// in the job.
func (s *Server) boundEvents(ctx context.Context, job *recordv1.Job, sel *postriderv1.EventSelection) error {
	account := postrider.AccountID(job.GetReplay().GetAccountId())
	if sel.GetEventId() != "" {
		_, sequence, err := s.deps.Events.Find(ctx, account, postrider.EventID(sel.GetEventId()))
		if errors.Is(err, eventstream.ErrNotFound) {
			return fault.New(fault.NotFound, "NOT_FOUND", "the event "+sel.GetEventId()+" is not kept").WithMetadata("id", sel.GetEventId())
		}
		if err != nil {
			return recordAway("events", err)
		}
		job.NextSequence, job.LastSequence = sequence, sequence
		return nil
	}
	last, err := s.deps.Events.LastSequence(ctx, account)
	if err != nil {
		return recordAway("events", err)
	}
	first, err := s.deps.Events.Select(ctx, eventstream.Selection{Account: account, Since: sel.GetStartTime().AsTime().Add(-acceptLead), Limit: 1})
	if err != nil {
		return recordAway("events", err)
	}
	job.LastSequence, job.NextSequence = last, last+1
	if len(first) > 0 {
		job.NextSequence = first[0].Sequence
	}
	return nil
}

func (s *Server) preview(ctx context.Context, job *recordv1.Job) (*postriderv1.ReplayPreview, error) {
	p, err := s.deps.Replays.Preview(ctx, job)
	if err != nil {
		if _, ok := fault.As(err); ok {
			return nil, err
		}
		return nil, fault.New(fault.Unavailable, "STORE_UNAVAILABLE", "what a replay would do cannot be counted now").WithCause(err)
	}
	return p, nil
}

func (s *Server) createJob(ctx context.Context, job *recordv1.Job) (*postriderv1.Replay, error) {
	job.Replay.CreateTime = timestamppb.New(s.deps.Now())
	job.Replay.UpdateTime = job.Replay.GetCreateTime()
	if _, err := s.deps.Store.CreateJob(ctx, job); err != nil {
		return nil, stored(err, "replay", job.GetReplay().GetId())
	}
	s.deps.Replays.Wake()
	return job.GetReplay(), nil
}

// GetReplay reads a job.
func (s *Server) GetReplay(ctx context.Context, req *postriderv1.GetReplayRequest) (*postriderv1.GetReplayResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	job, _, err := s.deps.Store.GetJob(ctx, string(account), req.GetReplayId())
	if err != nil {
		return nil, stored(err, "replay", req.GetReplayId())
	}
	return &postriderv1.GetReplayResponse{Replay: job.GetReplay()}, nil
}

// ListReplays lists jobs, newest first.
func (s *Server) ListReplays(ctx context.Context, req *postriderv1.ListReplaysRequest) (*postriderv1.ListReplaysResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	before, err := parsePageToken(req.GetPageToken(), "replays", string(account))
	if err != nil {
		return nil, err
	}
	list, err := s.deps.Store.ListJobs(ctx, string(account), before, size+1)
	if err != nil {
		return nil, stored(err, "replays of", string(account))
	}
	resp := &postriderv1.ListReplaysResponse{}
	for i, e := range list {
		if i == size {
			resp.NextPageToken = pageToken(list[i-1].Record.GetReplay().GetId(), "replays", string(account))
			break
		}
		resp.Replays = append(resp.Replays, e.Record.GetReplay())
	}
	return resp, nil
}

// AbortReplay marks a job; its holder finishes what is under way, so that the count is exact.
func (s *Server) AbortReplay(ctx context.Context, req *postriderv1.AbortReplayRequest) (*postriderv1.AbortReplayResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	for {
		job, rev, err := s.deps.Store.GetJob(ctx, string(account), req.GetReplayId())
		if err != nil {
			return nil, stored(err, "replay", req.GetReplayId())
		}
		if job.GetReplay().GetState() != postriderv1.ReplayState_REPLAY_STATE_RUNNING {
			return &postriderv1.AbortReplayResponse{Replay: job.GetReplay()}, nil
		}
		job.Replay.State = postriderv1.ReplayState_REPLAY_STATE_ABORTING
		_, err = s.deps.Store.UpdateJob(ctx, job, rev)
		if errors.Is(err, config.ErrConflict) && ctx.Err() == nil {
			continue // its holder writes it all the time
		}
		if err != nil {
			return nil, stored(err, "replay", req.GetReplayId())
		}
		s.deps.Replays.Wake()
		return &postriderv1.AbortReplayResponse{Replay: job.GetReplay()}, nil
	}
}

// knowsWebhook refuses a webhook that the account does not have.
func (s *Server) knowsWebhook(ctx context.Context, account, id string) error {
	if id == "" {
		return nil
	}
	_, _, err := s.deps.Store.GetWebhook(ctx, account, id)
	return stored(err, "webhook", id)
}

func checkReplay(rate float64, id string) (v []fault.Violation) {
	if !(rate >= 0 && rate <= maxReplayRate) {
		v = append(v, fault.Violation{Field: "rate", Rule: "must be above 0 and at most 10000"})
	}
	if id != "" && !postrider.ReplayID(id).Valid() {
		v = append(v, fault.Violation{Field: "replay_id", Rule: `must be "rpl_" and a ULID`})
	}
	return v
}

func checkEventSelection(sel *postriderv1.EventSelection) (v []fault.Violation) {
	fail := func(field, rule string) { v = append(v, fault.Violation{Field: "events." + field, Rule: rule}) }
	switch {
	case sel.GetEventId() == "" && sel.GetStartTime() == nil:
		fail("start_time", "is required without event_id")
	case sel.GetEventId() != "" && !postrider.EventID(sel.GetEventId()).Valid():
		fail("event_id", `must be "evt_" and a ULID`)
	}
	v = append(v, checkRange("events.", sel.GetStartTime(), sel.GetEndTime())...)
	if len(sel.GetEventTypes()) > maxReplayTypes {
		fail("event_types", fmt.Sprintf("must be at most %d", maxReplayTypes))
	}
	for i, text := range sel.GetEventTypes() {
		if _, err := match.ParsePattern(text); err != nil {
			fail(fmt.Sprintf("event_types[%d]", i), err.Error())
		}
	}
	if id := postrider.WebhookID(sel.GetWebhookId()); id != "" && !id.Valid() {
		fail("webhook_id", `must be "wh_" and a ULID`)
	}
	if _, known := postriderv1.DeliveryState_name[int32(sel.GetState())]; !known {
		fail("state", "must be a known state")
	}
	return v
}

func checkLetterSelection(sel *postriderv1.DeadLetterSelection) (v []fault.Violation) {
	fail := func(field, rule string) { v = append(v, fault.Violation{Field: "dead_letters." + field, Rule: rule}) }
	if len(sel.GetDeliveryIds()) > maxReplayLetters {
		fail("delivery_ids", fmt.Sprintf("must be at most %d", maxReplayLetters))
	}
	for i, id := range sel.GetDeliveryIds() {
		if !postrider.DeliveryID(id).Valid() {
			fail(fmt.Sprintf("delivery_ids[%d]", i), `must be "dlv_" and a hash`)
		}
	}
	if id := postrider.WebhookID(sel.GetWebhookId()); id != "" && !id.Valid() {
		fail("webhook_id", `must be "wh_" and a ULID`)
	}
	if !knownCause(sel.GetCause()) {
		fail("cause", ruleCause)
	}
	return append(v, checkRange("dead_letters.", sel.GetStartTime(), sel.GetEndTime())...)
}

func checkRange(prefix string, start, end *timestamppb.Timestamp) (v []fault.Violation) {
	for field, t := range map[string]*timestamppb.Timestamp{"start_time": start, "end_time": end} {
		if t != nil && t.CheckValid() != nil {
			v = append(v, fault.Violation{Field: prefix + field, Rule: "must be a time"})
		}
	}
	if len(v) == 0 && start != nil && end != nil && !start.AsTime().Before(end.AsTime()) {
		v = append(v, fault.Violation{Field: prefix + "end_time", Rule: "must be after start_time"})
	}
	return v
}

func recordAway(what string, err error) error {
	return fault.New(fault.Unavailable, "RECORD_UNAVAILABLE", "the record of "+what+" cannot be read now").WithCause(err)
}
