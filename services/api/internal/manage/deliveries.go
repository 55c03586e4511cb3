package manage

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	dispatcherv1 "github.com/postrider/postrider/proto/gen/go/postrider/dispatcher/v1"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

var shownStates = map[postrider.DeliveryState]postriderv1.DeliveryState{
	postrider.Pending:   postriderv1.DeliveryState_DELIVERY_STATE_PENDING,
	postrider.Waiting:   postriderv1.DeliveryState_DELIVERY_STATE_WAITING,
	postrider.Held:      postriderv1.DeliveryState_DELIVERY_STATE_HELD,
	postrider.Delivered: postriderv1.DeliveryState_DELIVERY_STATE_DELIVERED,
	postrider.Dead:      postriderv1.DeliveryState_DELIVERY_STATE_DEAD,
	postrider.Cancelled: postriderv1.DeliveryState_DELIVERY_STATE_CANCELLED,
}

// GetDelivery reads one delivery from the log.
func (s *Server) GetDelivery(ctx context.Context, req *postriderv1.GetDeliveryRequest) (*postriderv1.GetDeliveryResponse, error) {
	d, err := s.delivery(ctx, req.GetAccountId(), req.GetDeliveryId())
	if err != nil {
		return nil, err
	}
	return &postriderv1.GetDeliveryResponse{Delivery: shownDelivery(d)}, nil
}

func (s *Server) delivery(ctx context.Context, requested, id string) (*logstore.Delivery, error) {
	account, err := s.account(ctx, requested)
	if err != nil {
		return nil, err
	}
	d, err := s.deps.Log.Delivery(ctx, account, id)
	if err != nil {
		return nil, logFault(err, id)
	}
	return d, nil
}

func logUnavailable(err error) error {
	if errors.Is(err, logstore.ErrRebuilding) {
		return fault.New(fault.Unavailable, "LOG_REBUILDING", "the delivery log is being built again and does not answer yet; deliveries go on").
			WithCause(err).WithRetryAfter(10 * time.Second)
	}
	return fault.New(fault.Unavailable, "LOG_UNAVAILABLE", "the delivery log cannot be read now; deliveries go on").WithCause(err)
}

// ListDeliveries lists the log, newest first or oldest first.
func (s *Server) ListDeliveries(ctx context.Context, req *postriderv1.ListDeliveriesRequest) (*postriderv1.ListDeliveriesResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	q := logstore.Query{
		Account: account, EventID: req.GetEventId(), WebhookID: req.GetWebhookId(), EventType: req.GetEventType(),
		CallID: req.GetCallId(), Limit: size + 1, Start: optionalTime(req.GetStartTime()), End: optionalTime(req.GetEndTime()),
	}
	q.OldestFirst = req.GetOldestFirst()
	q.Outcome, q.StatusCode = postrider.Outcome(req.GetOutcome()), int(req.GetStatusCode())
	if q.Outcome != "" && !slices.Contains(outcomes, q.Outcome) {
		return nil, invalid("outcome", "must be succeeded, retryable, permanent or gone")
	}
	if q.StatusCode != 0 && (q.StatusCode < 100 || q.StatusCode > 999) {
		return nil, invalid("status_code", "must have three digits")
	}
	for state, shown := range shownStates {
		if shown == req.GetState() {
			q.State = state
		}
	}
	if q.State == "" && req.GetState() != postriderv1.DeliveryState_DELIVERY_STATE_UNSPECIFIED {
		return nil, invalid("state", "must be a known state")
	}
	bind := []string{
		"deliveries", string(account), q.EventID, q.WebhookID, q.EventType, q.CallID, string(q.State),
		strconv.FormatInt(q.Start.UnixMicro(), 10), strconv.FormatInt(q.End.UnixMicro(), 10),
		string(q.Outcome), strconv.Itoa(q.StatusCode),
	}
	if q.OldestFirst { // tokens of before this was know nothing of it
		bind = append(bind, "oldest first")
	}
	place, err := parsePageToken(req.GetPageToken(), bind...)
	if err != nil {
		return nil, err
	}
	if us, id, ok := parseTimePlace(place); ok {
		q.After = logstore.Cursor{CreateTime: time.UnixMicro(us), ID: id}
	}
	page, err := s.deps.Log.Deliveries(ctx, q)
	if err != nil {
		return nil, logUnavailable(err)
	}
	resp := &postriderv1.ListDeliveriesResponse{}
	for i, d := range page {
		if i == size {
			last := page[i-1]
			resp.NextPageToken = pageToken(timePlace(last.CreateTime.UnixMicro(), last.ID), bind...)
			break
		}
		resp.Deliveries = append(resp.Deliveries, shownDelivery(d))
	}
	return resp, nil
}

// ListAttempts lists the attempts of a delivery, oldest first.
func (s *Server) ListAttempts(ctx context.Context, req *postriderv1.ListAttemptsRequest) (*postriderv1.ListAttemptsResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	place, err := parsePageToken(req.GetPageToken(), "attempts", string(account), req.GetDeliveryId())
	if err != nil {
		return nil, err
	}
	skip := 0
	if place != "" {
		if skip, err = strconv.Atoi(place); err != nil || skip < 0 {
			return nil, invalid("page_token", "is not a token that a list gave")
		}
	}
	page, err := s.deps.Log.Attempts(ctx, account, req.GetDeliveryId(), skip, size+1)
	if err != nil {
		return nil, logUnavailable(err)
	}
	resp := &postriderv1.ListAttemptsResponse{}
	for i, a := range page {
		if i == size {
			resp.NextPageToken = pageToken(strconv.Itoa(skip+size), "attempts", string(account), req.GetDeliveryId())
			break
		}
		resp.Attempts = append(resp.Attempts, shownAttempt(a, mayReveal(ctx)))
	}
	return resp, nil
}

// CancelDelivery ends a delivery that was not delivered.
func (s *Server) CancelDelivery(ctx context.Context, req *postriderv1.CancelDeliveryRequest) (*postriderv1.CancelDeliveryResponse, error) {
	d, err := s.delivery(ctx, req.GetAccountId(), req.GetDeliveryId())
	if err != nil {
		return nil, err
	}
	if d.State.Ended() {
		return nil, fault.New(fault.Precondition, "DELIVERY_ENDED", "the delivery is "+string(d.State)+" already").WithMetadata("state", string(d.State))
	}
	resp, err := s.deps.Scheduler.Cancel(ctx, &schedulerv1.CancelRequest{
		AccountId: string(d.Account), WebhookId: d.WebhookID, DeliveryId: d.ID, Reason: "request",
	})
	if err != nil {
		return nil, err
	}
	return &postriderv1.CancelDeliveryResponse{Removed: resp.GetCancelled() > 0}, nil
}

// RetryDelivery makes one attempt now, beside the schedule.
func (s *Server) RetryDelivery(ctx context.Context, req *postriderv1.RetryDeliveryRequest) (*postriderv1.RetryDeliveryResponse, error) {
	d, err := s.delivery(ctx, req.GetAccountId(), req.GetDeliveryId())
	if err != nil {
		return nil, err
	}
	if d.State == postrider.Delivered || d.State == postrider.Cancelled {
		return nil, fault.New(fault.Precondition, "DELIVERY_ENDED", "the delivery is "+string(d.State)+"; a replay delivers its event again").
			WithMetadata("state", string(d.State))
	}
	resp, err := s.deps.Dispatcher.SendRetry(ctx, &dispatcherv1.SendRetryRequest{
		AccountId: string(d.Account), WebhookId: d.WebhookID, DeliveryId: d.ID, EventId: d.EventID, ReplayId: d.ReplayID,
		Series: int32(d.Series), //nolint:gosec // one for each redrive
	})
	if err != nil {
		return nil, err
	}
	return &postriderv1.RetryDeliveryResponse{Attempt: shownAttempt(&logstore.Attempt{DeliveryID: d.ID, Record: resp.GetAttempt()}, true)}, nil
}

// GetDeadLetter reads a dead letter from the record, with its data.
func (s *Server) GetDeadLetter(ctx context.Context, req *postriderv1.GetDeadLetterRequest) (*postriderv1.GetDeadLetterResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	id := postrider.DeliveryID(req.GetDeliveryId())
	if !id.Valid() {
		return nil, invalid("delivery_id", `must be "dlv_" and a hash`)
	}
	rec, sequence, err := s.deps.DeadLetters.Get(ctx, account, id)
	if errors.Is(err, deadletterstream.ErrNotFound) {
		return nil, fault.New(fault.NotFound, "NOT_FOUND", "no dead letter of "+string(id)).WithMetadata("id", string(id))
	}
	if err != nil {
		return nil, fault.New(fault.Unavailable, "RECORD_UNAVAILABLE", "the record of dead letters cannot be read now").WithCause(err)
	}
	letter := s.shownDeadLetter(rec, sequence)
	if mayReveal(ctx) {
		letter.Data = rec.GetDelivery().GetData()
	}
	return &postriderv1.GetDeadLetterResponse{DeadLetter: letter}, nil
}

func (s *Server) shownDeadLetter(rec *recordv1.DeadLetter, sequence uint64) *postriderv1.DeadLetter {
	d := rec.GetDelivery()
	return &postriderv1.DeadLetter{
		DeliveryId: d.GetId(), AccountId: d.GetAccountId(), WebhookId: d.GetWebhookId(), EventId: d.GetEventId(), EventType: d.GetEventType(),
		Cause: rec.GetCause(), AttemptCount: d.GetProgress().GetAttempts(), LastStatusCode: d.GetProgress().GetLastStatusCode(),
		LastErrorClass: d.GetProgress().GetLastErrorClass(), CreateTime: rec.GetTime(), ContentType: d.GetContentType(), Sequence: sequence,
		ExpireTime: s.expiry(rec),
	}
}

func shownDelivery(d *logstore.Delivery) *postriderv1.Delivery {
	return &postriderv1.Delivery{
		Id: d.ID, AccountId: string(d.Account), EventId: d.EventID, EventType: d.EventType, WebhookId: d.WebhookID,
		State: shownStates[d.State], AttemptCount: int32(d.AttemptCount), CreateTime: timestamppb.New(d.CreateTime), //nolint:gosec // at most 25
		UpdateTime: timestamppb.New(d.StateTime), NextAttemptTime: shownTime(d.NextAttemptTime), Reason: d.Reason,
		LastStatusCode: int32(d.LastStatusCode), LastErrorClass: d.LastErrorClass, ReplayId: d.ReplayID, CallId: d.CallID, //nolint:gosec // an HTTP status
		Series: int32(d.Series), LastOutcome: string(d.LastOutcome), //nolint:gosec // one for each redrive
	}
}

// outcomes that an attempt may have.
var outcomes = []postrider.Outcome{postrider.Succeeded, postrider.Retryable, postrider.Permanent, postrider.Gone}

// shownAttempt is an attempt as the caller sees it: with what it holds, or with that masked.
func shownAttempt(a *logstore.Attempt, reveal bool) *postriderv1.Attempt {
	r := a.Record
	shown := &postriderv1.Attempt{
		Id: r.GetAttemptId(), DeliveryId: a.DeliveryID, Number: r.GetNumber(), Outcome: r.GetOutcome(), ErrorClass: r.GetErrorClass(),
		ErrorMessage: r.GetErrorMessage(), StartTime: r.GetStartTime(),
		Duration:      durationpb.New(time.Duration(r.GetDurationUs()) * time.Microsecond),
		RequestMethod: r.GetRequestMethod(), RequestUrl: r.GetRequestUrl(), RequestHeaders: r.GetRequestHeaders(),
		StatusCode: r.GetStatusCode(), ResponseHeaders: r.GetResponseHeaders(), ResponseBody: r.GetResponseBody(),
		ResponseBodyTruncated: r.GetResponseBodyTruncated(), NextAttemptTime: r.GetNextAttemptTime(), Trigger: r.GetTrigger(),
		Series: r.GetSeries(), RequestBody: r.GetRequestBody(), RequestBodyTruncated: r.GetRequestBodyTruncated(),
		RequestBodyIsData: r.GetRequestBodyIsData(), RequestBodySize: r.GetRequestBodySize(), Timings: shownTimings(r.GetTimings()),
	}
	if !reveal {
		maskAttempt(shown)
	}
	return shown
}

func shownTimings(t *recordv1.Timings) *postriderv1.AttemptTimings {
	if t == nil {
		return nil
	}
	return &postriderv1.AttemptTimings{
		Dns: shownPhase(t.GetDnsUs()), Connect: shownPhase(t.GetConnectUs()), Tls: shownPhase(t.GetTlsUs()),
		FirstByte: shownPhase(t.GetFirstByteUs()), Reused: t.GetReused(), RemoteAddress: t.GetRemoteAddress(),
	}
}

// shownPhase is how long a phase took; nil if it did not take place.
func shownPhase(us int64) *durationpb.Duration {
	if us == 0 {
		return nil
	}
	return durationpb.New(time.Duration(us) * time.Microsecond)
}

func optionalTime(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func shownTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
