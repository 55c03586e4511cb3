package pipeline

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/services/dispatcher/internal/quota"
)

// quotas are those of the accounts that have limits of their own, over all shards that are held.
type quotas struct {
	p   *Pipeline
	cfg quota.Config

	size atomic.Int64 // of all, so that nobody else takes the lock while no account has limits
	mu   sync.Mutex
	all  map[string]*accountQuota
}

// accountQuota is a quota and the timer that looks at its queue.
type accountQuota struct {
	*quota.Quota[*job]

	account string
	armed   atomic.Bool // a timer is on its way
}

func newQuotas(p *Pipeline) *quotas {
	return &quotas{
		p: p, all: map[string]*accountQuota{},
		cfg: quota.Config{ParkAfter: p.cfg.ParkAfter, SlowAfter: p.cfg.SlowAfter, Lag: p.lag.Behind, Random: random},
	}
}

// of is the account's quota under its present limits, nil if it has none. One whose limits were
// taken away lets everything pass until it is idle.
func (q *quotas) of(account string, now time.Time) *accountQuota {
	limits := quota.Limits(q.p.deps.Registry.AccountLimits(account, q.p.holds))
	if limits == (quota.Limits{}) && q.size.Load() == 0 {
		return nil
	}
	q.mu.Lock()
	a := q.all[account]
	if a == nil && limits != (quota.Limits{}) {
		a = &accountQuota{Quota: quota.New[*job](&q.cfg, limits, now), account: account}
		q.all[account] = a
		q.size.Store(int64(len(q.all)))
	}
	q.mu.Unlock()
	if a != nil {
		a.Configure(limits, now)
	}
	return a
}

// watch has the quota's queue looked at after a while. One timer at a time does.
func (q *quotas) watch(a *accountQuota, after time.Duration) {
	if a.armed.CompareAndSwap(false, true) {
		time.AfterFunc(after, func() { q.tick(a) })
	}
}

// tick does what the passing of time sets free, under the limits that hold now.
func (q *quotas) tick(a *accountQuota) {
	// Before the queue is looked at: whoever queues after that arms the timer anew.
	a.armed.Store(false)
	now := time.Now()
	a.Configure(quota.Limits(q.p.deps.Registry.AccountLimits(a.account, q.p.holds)), now)
	run, park, wait := a.Tick(now)
	begin(run)
	for _, p := range park {
		p.Job.shard.release(p.Job)
		p.Job.shard.park(p.Job, p.Until, p.Reason)
	}
	if wait > 0 {
		q.watch(a, wait)
	}
}

// view shows the account's quota; false if it has no limits.
func (q *quotas) view(account string, now time.Time) (v quota.View, limited bool) {
	a := q.of(account, now)
	if a == nil {
		return v, false
	}
	v = a.View()
	return v, v.Limits != quota.Limits{}
}

// sweep drops the quotas that are not used any more.
func (q *quotas) sweep(now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for account, a := range q.all {
		if a.Idle(now.Add(-laneIdle)) {
			delete(q.all, account)
		}
	}
	q.size.Store(int64(len(q.all)))
}

// drain takes the shard's jobs out of the queues.
func (q *quotas) drain(s *shard) []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []*job
	for _, a := range q.all {
		out = append(out, a.Drain(func(j *job) bool { return j.shard == s })...)
	}
	return out
}

// begin has the jobs attempted that a quota set free.
func begin(jobs []*job) {
	for _, j := range jobs {
		j.stage = quota.Begun
		j.shard.start(j)
	}
}

// enterQuota asks the account's own limits. It parks the job and reports false if they do not
// allow an attempt soon.
func (s *shard) enterQuota(j *job, now time.Time) bool {
	a := s.p.quotas.of(j.delivery.GetAccountId(), now)
	if a == nil {
		return true
	}
	ok, until, reason := a.Admit(now)
	if !ok {
		s.park(j, until, reason)
		return false
	}
	j.quota, j.stage = a, quota.Admitted
	return true
}

// leaveQuota gives the job's place in its account's quota back, if it has one. Took is how long the
// attempt took, 0 if there was none.
func (s *shard) leaveQuota(j *job, took time.Duration) {
	a := j.quota
	if a == nil {
		return
	}
	j.quota = nil
	begin(a.Leave(time.Now(), j.stage, took))
}

// run has a job attempted that its lane let go: now, or when its account's limits allow it.
func (s *shard) run(j *job) {
	a := j.quota
	if a == nil {
		s.start(j)
		return
	}
	// From here on the job may be another goroutine's, unless it may begin.
	if a.Begin(time.Now(), j) {
		j.stage = quota.Begun
		s.start(j)
		return
	}
	s.p.quotas.watch(a, time.Millisecond)
}
