package shardlease

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nuid"

	"github.com/postrider/postrider/pkg/stream/bucket"
)

// sign is a member's last sign of life.
type sign struct {
	id       string
	revision uint64
	at       time.Time // when it was acknowledged
}

// pulse renews the member's key.
type pulse struct {
	leases *Leases
	bucket *bucket.Bucket
	wake   chan struct{}

	mu      sync.Mutex
	sign    sign
	leaving bool
}

func newPulse(l *Leases, b *bucket.Bucket) *pulse {
	return &pulse{leases: l, bucket: b, wake: make(chan struct{}, 1), sign: sign{id: newID(l.instance)}}
}

// newID is a member id: the instance for people, and something that was never used.
func newID(instance string) string {
	safe := []byte(instance)
	for i, c := range safe {
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
		if !ok {
			safe[i] = '_'
		}
	}
	if len(safe) == 0 {
		safe = []byte("member")
	}
	return string(safe) + "." + nuid.Next()
}

// leave tells the others, with the next renewal, which is now, to give this member no more.
func (p *pulse) leave() {
	p.mu.Lock()
	p.leaving = true
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// last is the member's last sign of life.
func (p *pulse) last() sign {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sign
}

// run renews every Renew, and more often after a failure, until ctx ends. A renewal counts from
// when it was begun.
func (p *pulse) run(ctx context.Context, g *guard) {
	cfg := p.leases.cfg
	failing := false
	for ctx.Err() == nil {
		began := time.Now()
		ok, err := p.beat(ctx)
		wait := cfg.Renew - time.Since(began)
		switch {
		case ok:
			failing = false
			g.renew(p.last().id, began.Add(cfg.Hold))
		case err == nil:
			continue // with another revision or id
		default:
			wait = cfg.Renew / 4
			if !failing && ctx.Err() == nil {
				p.leases.log.WarnContext(ctx, "shard leases cannot be renewed", "error", err)
			}
			failing = true
			_ = p.bucket.Again(ctx) // if it was lost; if not, the next renewal says what is wrong
		}
		p.rest(ctx, wait)
	}
}

func (p *pulse) rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.wake:
	case <-ctx.Done():
	}
}

// beat writes the member's key once; ok if that was acknowledged. Neither ok nor an error means
// that it should be tried at once, because the key was not at the revision that the pulse knew:
// either an earlier try was stored after all, for nobody else writes the key; or the key is gone,
// because the member was fenced, and then it goes on under another id.
func (p *pulse) beat(ctx context.Context) (ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.leases.cfg.Renew)
	defer cancel()
	p.mu.Lock()
	id, expected, value := p.sign.id, p.sign.revision, memberValue{Leaving: p.leaving}
	p.mu.Unlock()
	body, err := json.Marshal(value)
	if err != nil {
		return false, err
	}
	revision, err := p.bucket.Put(ctx, memberPrefix+id, body, expected)
	switch {
	case err == nil:
		p.set(id, revision)
		return true, nil
	case !errors.Is(err, bucket.ErrConflict):
		return false, err
	}
	e, err := p.bucket.Get(ctx, memberPrefix+id)
	switch {
	case err == nil:
		p.set(id, e.Revision)
	case errors.Is(err, bucket.ErrNotFound):
		p.leases.log.WarnContext(ctx, "shard leases were lost to another member", "member", id)
		p.leases.endAll(ErrLapsed)
		p.set(newID(p.leases.instance), 0)
	default:
		return false, err
	}
	return false, nil
}

func (p *pulse) set(id string, revision uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sign = sign{id: id, revision: revision, at: time.Now()}
}
