// Package activity answers how attempts went over time, by the counts that the delivery log keeps. It
// holds no state.
package activity

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

// log is all that is needed of the delivery log.
type log interface {
	Activity(ctx context.Context, q logstore.ActivityQuery) ([]logstore.ActivityCount, error)
}

// Server implements ActivityService.
type Server struct {
	postriderv1.UnimplementedActivityServiceServer
	log log
	now func() time.Time
}

// New returns a server.
func New(log log, now func() time.Time) *Server { return &Server{log: log, now: now} }

// Register adds the service.
func (s *Server) Register(r grpc.ServiceRegistrar) { postriderv1.RegisterActivityServiceServer(r, s) }

// Rules is the scope that each method needs.
func Rules() map[string]postrider.Scope {
	return map[string]postrider.Scope{postriderv1.ActivityService_GetActivity_FullMethodName: postrider.ScopeRead}
}

const (
	defaultSpan = time.Hour
	maxSteps    = 1000
	// maxSpan bounds what one call reads.
	maxSpan = 31 * 24 * time.Hour
)

// GetActivity counts the attempts of an account, or of one of its webhooks, in steps of time.
func (s *Server) GetActivity(ctx context.Context, req *postriderv1.GetActivityRequest) (*postriderv1.GetActivityResponse, error) {
	p, err := access.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	account, err := p.For(req.GetAccountId())
	if err != nil {
		return nil, err
	}
	q, err := s.query(account, req)
	if err != nil {
		return nil, err
	}
	counts, err := s.log.Activity(ctx, q)
	if errors.Is(err, logstore.ErrRebuilding) {
		return nil, fault.New(fault.Unavailable, "LOG_REBUILDING", "the delivery log is being built again; deliveries go on")
	}
	if err != nil {
		return nil, fault.New(fault.Unavailable, "LOG_UNAVAILABLE", "the delivery log cannot be read now; deliveries go on").WithCause(err)
	}
	return answer(q, counts), nil
}

func (s *Server) query(account postrider.AccountID, req *postriderv1.GetActivityRequest) (logstore.ActivityQuery, error) {
	q := logstore.ActivityQuery{Account: account, WebhookID: req.GetWebhookId(), End: s.now(), Minutes: 1}
	var wrong []fault.Violation
	check := func(ok bool, field, rule string) {
		if !ok {
			wrong = append(wrong, fault.Violation{Field: field, Rule: rule})
		}
	}
	if id := postrider.WebhookID(req.GetWebhookId()); id != "" {
		check(id.Valid(), "webhook_id", `must be "wh_" and a ULID`)
	}
	if t := req.GetEndTime(); t != nil {
		check(t.IsValid(), "end_time", "must be a time")
		q.End = t.AsTime()
	}
	q.End = ceil(q.End)
	q.Start = q.End.Add(-defaultSpan)
	if t := req.GetStartTime(); t != nil {
		check(t.IsValid(), "start_time", "must be a time")
		q.Start = t.AsTime().Truncate(time.Minute)
	}
	if d := req.GetStep(); d != nil {
		check(d.AsDuration() >= time.Minute && d.AsDuration()%time.Minute == 0, "step", "must be whole minutes, at least one")
		q.Minutes = max(int64(d.AsDuration()/time.Minute), 1)
	}
	span := q.End.Sub(q.Start)
	check(span > 0, "start_time", "must be before end_time")
	check(span <= maxSpan, "start_time", "must be at most 31 days before end_time")
	check(span <= 0 || steps(q) <= maxSteps, "step", "must be long enough for at most 1 000 steps")
	if len(wrong) > 0 {
		return q, fault.InvalidFields(wrong...)
	}
	return q, nil
}

// ceil is the next whole minute, or the time itself if it is one.
func ceil(t time.Time) time.Time {
	if whole := t.Truncate(time.Minute); whole.Before(t) {
		return whole.Add(time.Minute)
	}
	return t
}

func steps(q logstore.ActivityQuery) int {
	step := time.Duration(q.Minutes) * time.Minute
	return int((q.End.Sub(q.Start) + step - 1) / step)
}

// answer puts the counts into their steps, of which each is there.
func answer(q logstore.ActivityQuery, counts []logstore.ActivityCount) *postriderv1.GetActivityResponse {
	n := steps(q)
	each, all := make([]tally, n), tally{}
	for _, c := range counts {
		if c.Step >= 0 && c.Step < n {
			each[c.Step].add(c)
			all.add(c)
		}
	}
	resp := &postriderv1.GetActivityResponse{Points: make([]*postriderv1.ActivityPoint, n), Total: all.point(q.Start)}
	for i := range each {
		resp.Points[i] = each[i].point(q.Start.Add(time.Duration(int64(i)*q.Minutes) * time.Minute))
	}
	return resp
}

// tally is the attempts of one step.
type tally struct {
	good, bad int64
	buckets   map[int]int64
}

func (t *tally) add(c logstore.ActivityCount) {
	if t.buckets == nil {
		t.buckets = make(map[int]int64)
	}
	if c.Good {
		t.good += c.Count
	} else {
		t.bad += c.Count
	}
	t.buckets[c.Bucket] += c.Count
}

func (t *tally) point(at time.Time) *postriderv1.ActivityPoint {
	p := &postriderv1.ActivityPoint{Time: timestamppb.New(at), Succeeded: t.good, Failed: t.bad}
	if total := t.good + t.bad; total > 0 {
		p.P50, p.P99 = t.quantile(total, 50), t.quantile(total, 99)
	}
	return p
}

// quantile is the time that so many per cent of the attempts took at most.
func (t *tally) quantile(total, percent int64) *durationpb.Duration {
	want := (total*percent + 99) / 100
	var seen int64
	for bucket := 0; ; bucket++ {
		if seen += t.buckets[bucket]; seen >= want {
			return durationpb.New(logstore.BucketTime(bucket))
		}
	}
}
