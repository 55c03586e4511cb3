package retryset

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// rebuildLock is how long a replica that stopped in the middle of a rebuild keeps others from
// beginning one. Every refill starts it anew.
const rebuildLock = 15 * time.Second

// BeginRebuild implements Index.
func (x *Redis) BeginRebuild(ctx context.Context) (*Rebuild, error) {
	r := &Rebuild{token: rand.Text()}
	var want []int
	x.mu.Lock()
	for slot := range x.slots {
		if x.slots[slot].needsRebuild() {
			want = append(want, slot)
			r.slots[slot].doubts = x.slots[slot].doubts
		}
	}
	x.mu.Unlock()
	if len(want) == 0 {
		return r, nil
	}

	calls := make([]call, len(want))
	for i, slot := range want {
		calls[i] = call{
			keys: []string{dueKeys[slot], lockKeys[slot]},
			args: []any{r.token, rebuildLock.Milliseconds()},
		}
	}
	x.run(ctx, beginScript, calls)

	var errs []error
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, slot := range want {
		reply, err := parseNumbers(calls[i].reply, 3)
		if err != nil {
			errs = append(errs, fmt.Errorf("begin to rebuild slot %d: %w", slot, err))
			continue
		}
		if reply[0] == 0 {
			continue
		}
		r.Slots = r.Slots.With(slot)
		r.slots[slot].begun, r.slots[slot].run = reply[0], reply[2]
		x.slots[slot].seen = reply[1]
	}
	if r.Slots != 0 {
		return r, nil // the slots that failed are lost still, and are asked for again
	}
	return r, errors.Join(errs...)
}

// Refill implements Index.
func (x *Redis) Refill(ctx context.Context, r *Rebuild, entries []Entry) error {
	pipe := x.client.Pipeline()
	for slot, list := range bySlot(entries, entryMember) {
		if !r.Slots.Has(slot) {
			continue
		}
		// GT: what is leased while the records are read keeps its lease.
		zadd(ctx, pipe, slot, list, redis.ZAddArgs{GT: true})
		// Should the lock be another replica's by now, both rebuild, and its token ends this one.
		pipe.PExpire(ctx, lockKeys[slot], rebuildLock)
	}
	if pipe.Len() == 0 {
		return nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("refill the index with %d retries: %w", len(entries), err)
	}
	return nil
}

// EndRebuild implements Index.
func (x *Redis) EndRebuild(ctx context.Context, r *Rebuild) (Slots, error) {
	slots, calls, generations := x.finishCalls(r)
	x.run(ctx, finishScript, calls)

	var left Slots
	var errs []error
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, slot := range slots {
		count, err := calls[i].reply.Int64()
		if err != nil {
			errs = append(errs, fmt.Errorf("end the rebuild of slot %d: %w", slot, err))
		}
		if err != nil || count < 0 {
			left = left.With(slot)
			continue
		}
		x.slots[slot].rebuilt(epoch{generation: generations[i], count: count}, r.slots[slot].doubts)
		if x.slots[slot].needsRebuild() {
			left = left.With(slot)
		}
	}
	return left, errors.Join(errs...)
}

func (x *Redis) finishCalls(r *Rebuild) (slots []int, calls []call, generations []int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for slot := range slotCount {
		if !r.Slots.Has(slot) {
			continue
		}
		// Later than all that this process has seen, whatever became of the clock of Redis.
		generation := max(r.slots[slot].begun, x.slots[slot].generation+1)
		slots = append(slots, slot)
		generations = append(generations, generation)
		calls = append(calls, call{
			keys: []string{dueKeys[slot], lockKeys[slot]},
			args: []any{r.token, generation, x.slots[slot].seen, r.slots[slot].run},
		})
	}
	return slots, calls, generations
}

// AbandonRebuild implements Index.
func (x *Redis) AbandonRebuild(ctx context.Context, r *Rebuild) error {
	var calls []call
	for slot := range slotCount {
		if r.Slots.Has(slot) {
			calls = append(calls, call{keys: lockKeys[slot : slot+1], args: []any{r.token}})
		}
	}
	x.run(ctx, unlockScript, calls)
	for i := range calls {
		if err := calls[i].reply.Err(); err != nil {
			return fmt.Errorf("abandon the rebuild of the index: %w", err)
		}
	}
	return nil
}

// redisLock is an advisory lock between replicas.
type redisLock struct {
	index *Redis
	key   string
	token string
	ttl   time.Duration
}

// TryLock implements Index.
func (x *Redis) TryLock(ctx context.Context, name string, ttl time.Duration) (Lock, bool, error) {
	l := &redisLock{index: x, key: lockPrefix + name, token: rand.Text(), ttl: ttl}
	ok, err := x.client.SetNX(ctx, l.key, l.token, ttl).Result()
	if err != nil {
		return nil, false, fmt.Errorf("lock %s: %w", name, err)
	}
	if !ok {
		return nil, false, nil
	}
	return l, true, nil
}

// Extend implements Lock.
func (l *redisLock) Extend(ctx context.Context) (bool, error) {
	calls := []call{{keys: []string{l.key}, args: []any{l.token, l.ttl.Milliseconds()}}}
	l.index.run(ctx, extendScript, calls)
	held, err := calls[0].reply.Bool()
	if err != nil {
		return false, fmt.Errorf("extend %s: %w", l.key, err)
	}
	return held, nil
}

// Release implements Lock.
func (l *redisLock) Release(ctx context.Context) error {
	calls := []call{{keys: []string{l.key}, args: []any{l.token}}}
	l.index.run(ctx, unlockScript, calls)
	if err := calls[0].reply.Err(); err != nil {
		return fmt.Errorf("unlock %s: %w", l.key, err)
	}
	return nil
}
