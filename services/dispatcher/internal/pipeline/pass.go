package pipeline

import (
	"time"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/services/dispatcher/internal/evidence"
	"github.com/postrider/postrider/services/dispatcher/internal/settle"
)

// home says whether the shard is the home of the job's webhook.
func (s *shard) home(j *job) bool {
	return s.p.deps.Deliveries.Layout().Home(postrider.WebhookID(j.delivery.GetWebhookId())) == s.id
}

// elsewhere says whether the job belongs on another shard, since the number of shards was changed. One
// that was released for that, before its time, is not attempted here either, if this process has not
// learned of the change yet.
func (s *shard) elsewhere(j *job) bool {
	if !s.home(j) {
		return true
	}
	return j.source == evidence.Due && j.kind != recordv1.RetryKind_RETRY_KIND_HELD && retrystream.Moved(j.msg) &&
		j.due.GetDueTime().AsTime().After(time.Now())
}

// pass puts the job on its home, and acknowledges its message after that. Nothing has become of its
// delivery, so nothing is journalled: who holds its home attempts, holds or cancels it.
func (s *shard) pass(j *job) {
	j.passed = true
	s.p.deps.Meters.Forwarded(s.p.ctx)
	if j.source == evidence.Due {
		s.settle(j, settle.Settlement{Retry: j.due})
		return
	}
	j.task = s.forward
	s.start(j)
}

// forward has a delivery stored on its home. A repeat, after a crash or an acknowledgement that was lost, is
// the same message there. It holds no slot while it waits: those who attempt what fills that shard need them.
func (s *shard) forward(j *job) {
	err := s.p.deps.Deliveries.Forward(s.p.ctx, j.delivery, s.id, j.msg.Sequence(), func(err error) { s.forwarded(j, err) })
	if err != nil {
		s.forwarded(j, err)
	}
}

func (s *shard) forwarded(j *job, err error) {
	if err == nil {
		s.settled(j)
		return
	}
	if j.parcel != nil && s.ctx.Err() != nil {
		s.abandon(j)
		return
	}
	time.AfterFunc(troublePause, func() {
		if s.ctx.Err() != nil {
			s.giveBack(j)
			return
		}
		s.start(j)
	})
}
