package retryset

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/pkg/redisconn"
)

// maxClaim bounds how many members one run of the claim script leases.
const maxClaim = 1000

// addChunk bounds how many members one ZADD names: Redis does nothing else meanwhile.
const addChunk = 512

// Redis is the index that replicas share: a sorted set for each slot. Its keys are
// postrider:retry:{rNN}:due, the members of slot NN and its epoch, and
// postrider:retry:{rNN}:lock while somebody rebuilds the slot.
type Redis struct {
	client redis.UniversalClient

	mu    sync.Mutex
	slots [slotCount]slotState
}

var _ Index = (*Redis)(nil)

// The keys. The hash tag keeps what one script touches on one node of a cluster.
var (
	dueKeys    = slotKeys("due")
	lockKeys   = slotKeys("lock")
	lockPrefix = "postrider:retry:lock:"
)

func slotKeys(suffix string) (keys [slotCount]string) {
	for slot := range keys {
		keys[slot] = fmt.Sprintf("postrider:retry:{r%02d}:%s", slot, suffix)
	}
	return keys
}

// NewRedis returns the index in the Redis that the client reaches. It is lost until it is
// rebuilt by this process, or by another after this one's first claim of the slot.
func NewRedis(client redis.UniversalClient) *Redis {
	return &Redis{client: client}
}

// bySlot cuts a list into those of each slot.
func bySlot[T any](list []T, member func(T) Member) (slots [slotCount][]T) {
	for _, v := range list {
		slot := slotOf(member(v))
		slots[slot] = append(slots[slot], v)
	}
	return slots
}

func entryMember(e Entry) Member { return e.Member }

func sameMember(m Member) Member { return m }

// Add implements Index.
func (x *Redis) Add(ctx context.Context, entries ...Entry) error {
	if len(entries) == 0 {
		return nil
	}
	pipe := x.client.Pipeline()
	for slot, list := range bySlot(entries, entryMember) {
		// GT: a member that is there and leased keeps its lease.
		zadd(ctx, pipe, slot, list, redis.ZAddArgs{GT: true})
	}
	cmds, err := pipe.Exec(ctx)
	if err == nil {
		return nil
	}
	members, away := x.notAdded(ctx, cmds, entries)
	return &NotAddedError{Members: members, Away: away, Err: fmt.Errorf("index %d retries: %w", len(entries), err)}
}

// notAdded are the members of the slots that were not added to, and all slots of their servers.
func (x *Redis) notAdded(ctx context.Context, cmds []redis.Cmder, entries []Entry) (members []Member, away Slots) {
	failed := make(map[string]bool)
	for _, cmd := range cmds {
		if cmd.Err() != nil {
			key, _ := cmd.Args()[1].(string)
			failed[key] = true
		}
	}
	for _, e := range entries {
		if failed[dueKeys[slotOf(e.Member)]] {
			members = append(members, e.Member)
		}
	}
	for slot, key := range dueKeys {
		for other := range failed {
			if key == other || redisconn.Together(ctx, x.client, key, other) {
				away = away.With(slot)
			}
		}
	}
	return members, away
}

// Move implements Index.
func (x *Redis) Move(ctx context.Context, entries ...Entry) error {
	if len(entries) == 0 {
		return nil
	}
	pipe := x.client.Pipeline()
	for slot, list := range bySlot(entries, entryMember) {
		zadd(ctx, pipe, slot, list, redis.ZAddArgs{XX: true})
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("move %d indexed retries: %w", len(entries), err)
	}
	return nil
}

func zadd(ctx context.Context, pipe redis.Pipeliner, slot int, list []Entry, args redis.ZAddArgs) {
	for len(list) > 0 {
		n := min(len(list), addChunk)
		args.Members = make([]redis.Z, 0, n)
		for _, e := range list[:n] {
			args.Members = append(args.Members, redis.Z{Score: float64(score(e.Due)), Member: e.String()})
		}
		pipe.ZAddArgs(ctx, dueKeys[slot], args)
		list = list[n:]
	}
}

// Drop implements Index.
func (x *Redis) Drop(ctx context.Context, members ...Member) error {
	if len(members) == 0 {
		return nil
	}
	pipe := x.client.Pipeline()
	for slot, list := range bySlot(members, sameMember) {
		for len(list) > 0 {
			n := min(len(list), addChunk)
			names := make([]any, 0, n)
			for _, m := range list[:n] {
				names = append(names, m.String())
			}
			pipe.ZRem(ctx, dueKeys[slot], names...)
			list = list[n:]
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("drop %d indexed retries: %w", len(members), err)
	}
	return nil
}

// Missing implements Index.
func (x *Redis) Missing(ctx context.Context, members []Member) ([]Member, error) {
	pipe := x.client.Pipeline()
	scores := make([]*redis.FloatCmd, len(members))
	for i, m := range members {
		scores[i] = pipe.ZScore(ctx, dueKeys[slotOf(m)], m.String())
	}
	if len(scores) == 0 {
		return nil, nil
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("look up %d indexed retries: %w", len(members), err)
	}
	var missing []Member
	for i, score := range scores {
		switch err := score.Err(); {
		case errors.Is(err, redis.Nil):
			missing = append(missing, members[i])
		case err != nil:
			return nil, fmt.Errorf("look up indexed retry %s: %w", members[i], err)
		}
	}
	return missing, nil
}

// Count implements Index.
func (x *Redis) Count(ctx context.Context) (int64, error) {
	pipe := x.client.Pipeline()
	var counts [slotCount]*redis.IntCmd
	for slot := range counts {
		counts[slot] = pipe.ZCount(ctx, dueKeys[slot], "0", "+inf")
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, fmt.Errorf("count indexed retries: %w", err)
	}
	var total int64
	for _, n := range counts {
		total += n.Val()
	}
	return total, nil
}

// Claim implements Index. All slots are claimed in one round trip; a slot whose node does not
// answer keeps the others from nothing.
func (x *Redis) Claim(ctx context.Context, now time.Time, lease time.Duration, limit int) (Claimed, error) {
	each := strconv.Itoa(min(max(limit/slotCount, 1), maxClaim))
	at := strconv.FormatInt(now.UnixMilli(), 10)
	until := strconv.FormatInt(score(now.Add(lease)), 10)

	sent := x.snapshot()
	calls := make([]call, slotCount)
	for slot := range calls {
		calls[slot] = call{keys: dueKeys[slot : slot+1], args: []any{at, until, each}}
	}
	x.run(ctx, claimScript, calls)

	var got Claimed
	var first error // the others say the same
	var failed int
	var lost Slots
	for slot := range calls {
		reply, err := parseClaim(calls[slot].reply)
		if err != nil {
			failed++
			first = cmp.Or(first, err)
			continue
		}
		got.Members = append(got.Members, reply.members...)
		if reply.next >= 0 && (got.Next.IsZero() || reply.next < got.Next.UnixMilli()) {
			got.Next = time.UnixMilli(reply.next)
		}
		vanished, needsRebuild := x.observe(slot, sent[slot], reply)
		if vanished {
			got.Vanished++
		}
		if needsRebuild {
			lost = lost.With(slot)
		}
	}
	var errs []error
	if failed > 0 {
		errs = append(errs, fmt.Errorf("claim %d of %d slots: %w", failed, slotCount, first))
	}
	if lost != 0 {
		errs = append(errs, fmt.Errorf("%d of %d slots: %w", lost.Count(), slotCount, ErrEpochLost))
	}
	return got, errors.Join(errs...)
}

func (x *Redis) snapshot() (sent [slotCount]epoch) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for slot := range x.slots {
		sent[slot] = x.slots[slot].epoch
	}
	return sent
}

func (x *Redis) observe(slot int, sent epoch, reply claimReply) (vanished, lost bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.slots[slot].begin(reply.time) {
		sent = x.slots[slot].epoch
	}
	vanished = x.slots[slot].observe(sent, reply.epoch, reply.sound == 1)
	return vanished, x.slots[slot].needsRebuild()
}

// Distrust implements Index.
func (x *Redis) Distrust(members ...Member) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, m := range members {
		x.slots[slotOf(m)].doubts++
	}
}
