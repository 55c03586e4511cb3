package shardlease

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/bucket"
)

// Keys are member.<instance>.<one of its own> and shard.<n>.
const (
	memberPrefix = "member."
	shardPrefix  = "shard."
)

// memberValue is the value of a member's key.
type memberValue struct {
	Leaving bool `json:"leaving,omitempty"`
}

// queue is how many messages and returns wait for the member's loop.
const queue = 64

// member is one run of Leases: its loop and what belongs to it.
type member struct {
	*Leases
	bucket    *bucket.Bucket
	follower  *bucket.Follower
	onAcquire func(ctx context.Context, shard int)

	entries  chan bucket.Entry
	begins   chan bool
	returned chan int // shards whose onAcquire has returned
	pulse    *pulse
	work     sync.WaitGroup // of onAcquire

	// Of the loop alone.
	view    *view
	id      string
	wait    map[int]time.Time // shards that are not to be taken again before then
	prodded time.Time
}

func newMember(l *Leases, b *bucket.Bucket, onAcquire func(context.Context, int)) *member {
	return &member{
		Leases: l, bucket: b, onAcquire: onAcquire,
		entries: make(chan bucket.Entry, queue), begins: make(chan bool), returned: make(chan int, postrider.MaxShards),
		pulse: newPulse(l, b), view: newView(l.layout()), wait: make(map[int]time.Time),
	}
}

// run is the member's life.
func (m *member) run(ctx context.Context) {
	// What serves the leases outlives ctx: leaving needs it until the last shard is drained.
	serve, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	logged := time.Time{}
	m.follower = m.bucket.NewFollower(
		func(renewed bool) { give(serve, m.begins, renewed) },
		func(e bucket.Entry) { give(serve, m.entries, e) },
		func(err error) {
			if time.Since(logged) > 30*time.Second {
				logged = time.Now()
				m.log.WarnContext(serve, "shard leases are followed anew", "error", err)
			}
		},
	)
	guard := m.guard()
	wg.Go(func() { m.follower.Run(serve) })
	wg.Go(func() { m.pulse.run(serve, guard) })
	m.loop(ctx, serve)
	m.pulse.leave()
	m.drain(serve)
	stop()
	wg.Wait()
	guard.stop()
	m.resign(ctx)
}

// give hands a value to the loop, unless it has ended.
func give[T any](ctx context.Context, to chan<- T, v T) {
	select {
	case to <- v:
	case <-ctx.Done():
	}
}

// loop follows the bucket and acts on it until ctx ends.
func (m *member) loop(ctx, serve context.Context) {
	tick := time.NewTicker(max(m.cfg.Renew/10, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			m.endAll(context.Cause(ctx))
			return
		case <-tick.C:
		case renewed := <-m.begins:
			m.begin(renewed)
		case e := <-m.entries:
			m.learn(e)
			if len(m.entries) > 0 {
				continue
			}
		case n := <-m.returned:
			m.giveBack(serve, n)
		}
		m.act(ctx)
	}
}

// drain waits for every onAcquire, and gives their shards back one by one. Meanwhile the pulse
// goes on, so that nobody takes a shard that is still being drained.
func (m *member) drain(serve context.Context) {
	done := make(chan struct{})
	go func() {
		m.work.Wait()
		close(done)
	}()
	for {
		select {
		case n := <-m.returned:
			m.giveBack(serve, n)
		case e := <-m.entries:
			m.learn(e)
		case renewed := <-m.begins:
			m.begin(renewed)
		case <-done:
			for {
				select {
				case n := <-m.returned:
					m.giveBack(serve, n)
				default:
					return
				}
			}
		}
	}
}

// resign deletes the member's key. If that fails, the others find out in time.
func (m *member) resign(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.cfg.Renew)
	defer cancel()
	s := m.pulse.last()
	if s.revision == 0 {
		return
	}
	if _, err := m.bucket.Delete(ctx, memberPrefix+s.id, s.revision, markerKept); err != nil {
		m.log.WarnContext(ctx, "shard leases were not resigned", "member", s.id, "error", err)
	}
}

// begin starts to read the bucket from its beginning.
func (m *member) begin(renewed bool) {
	if renewed {
		m.view = newView(m.layout())
	}
	m.view.last = 0
}

// learn enters a message of the bucket.
func (m *member) learn(e bucket.Entry) {
	m.view.last = e.Revision
	if n, ok := strings.CutPrefix(e.Key, shardPrefix); ok {
		if shard, err := strconv.Atoi(n); err == nil {
			m.view.setShard(shard, holderOf(e), e.Revision)
		}
		return
	}
	id, ok := strings.CutPrefix(e.Key, memberPrefix)
	switch {
	case !ok:
	case e.Deleted:
		delete(m.view.members, id)
		if id == m.id {
			m.endAll(ErrLapsed) // fenced; the pulse finds out as well, but later
		}
	default:
		var v memberValue
		_ = json.Unmarshal(e.Value, &v) // a value that cannot be read is a sign of life all the same
		m.view.setMember(id, v.Leaving, e.Revision, time.Now())
	}
}

func holderOf(e bucket.Entry) string {
	if e.Deleted {
		return ""
	}
	return string(e.Value)
}

// act brings the member closer to its fair share.
func (m *member) act(ctx context.Context) {
	now := time.Now()
	s := m.pulse.last()
	m.id = s.id
	m.prod(now, s)
	// Having seen its own sign of life, it has seen all that was written before.
	if _, joined := m.view.members[m.id]; !joined || !m.proven(m.id) {
		return
	}
	for _, id := range m.view.dead(m.id, now, m.cfg.Takeover) {
		m.fence(ctx, id)
	}
	busy := func(n int) bool { return m.ending(n) || now.Before(m.wait[n]) }
	m.view.layout = m.layout()
	p := m.view.plan(m.id, now, m.cfg.Takeover, busy)
	for _, n := range p.drop {
		if !m.end(n, ErrHandover) {
			m.giveBack(ctx, n)
		}
	}
	for _, n := range p.take {
		m.take(ctx, n)
	}
	for n, s := range m.view.shards[:m.view.layout.Streams] {
		if s.holder == m.id && !now.Before(m.wait[n]) {
			m.start(ctx, n)
		}
	}
}

// prod makes the follower go on anew when the member's own sign of life does not come back to it.
func (m *member) prod(now time.Time, s sign) {
	const patience = 2
	late := patience * m.cfg.Renew
	if m.view.last < s.revision && now.Sub(s.at) > late && now.Sub(m.prodded) > late {
		m.prodded = now
		m.follower.Resume()
	}
}

// fence deletes a dead member's key at the revision at which it was seen unchanged.
func (m *member) fence(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Renew)
	defer cancel()
	_, err := m.bucket.Delete(ctx, memberPrefix+id, m.view.members[id].revision, markerKept)
	switch {
	case err == nil:
		m.log.InfoContext(ctx, "shard leases of a dead member are taken over", "member", id)
		delete(m.view.members, id)
	case errors.Is(err, bucket.ErrConflict) && m.gone(ctx, id):
		delete(m.view.members, id)
	}
}

// gone asks the bucket's leader whether a member's key is gone, which is for ever.
func (m *member) gone(ctx context.Context, id string) bool {
	_, err := m.bucket.Get(ctx, memberPrefix+id)
	return errors.Is(err, bucket.ErrNotFound)
}

// take writes this member into a shard's key, if its holder is gone.
func (m *member) take(ctx context.Context, n int) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Renew)
	defer cancel()
	s := m.view.shards[n]
	if s.holder != "" && !m.gone(ctx, s.holder) {
		return // it was written by a member whose sign of life is still to come
	}
	key := shardPrefix + strconv.Itoa(n)
	revision, err := m.bucket.Put(ctx, key, []byte(m.id), s.revision)
	switch {
	case err == nil:
		m.view.setShard(n, m.id, revision)
	case errors.Is(err, bucket.ErrConflict):
		// Another got it, which is on its way to us; or what we know of the key is gone, and will
		// not come.
		if e, err := m.bucket.Get(ctx, key); err == nil || errors.Is(err, bucket.ErrNotFound) {
			m.view.shards[n] = shardKey{holder: holderOf(e), revision: e.Revision}
		}
	}
}

// giveBack frees a shard that is drained.
func (m *member) giveBack(ctx context.Context, n int) {
	m.mu.Lock()
	h := m.running[n]
	delete(m.running, n)
	m.mu.Unlock()
	if h != nil && !h.ending {
		// onAcquire returned of its own accord: let another member try first.
		m.wait[n] = time.Now().Add(m.cfg.Renew)
	}
	s := m.view.shards[n]
	if s.holder != m.id || !m.connected() {
		return // if it is still ours when we can prove it again, we start it again
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Renew)
	defer cancel()
	revision, err := m.bucket.Delete(ctx, shardPrefix+strconv.Itoa(n), s.revision, 0)
	if err != nil {
		// It is still ours, or somebody's who took us for dead: look again when that is clear.
		m.wait[n] = time.Now().Add(m.cfg.Renew)
		m.log.WarnContext(ctx, "shard was not given back", "shard", n, "error", err)
		return
	}
	m.view.setShard(n, "", revision)
}

func (m *member) connected() bool { return m.client.JetStream().Conn().IsConnected() }
