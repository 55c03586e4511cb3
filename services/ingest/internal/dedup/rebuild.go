package dedup

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

const (
	// overlap is how much earlier than needed a scan begins: the clocks of replicas and of the
	// record may differ by that much.
	overlap = time.Minute
	// restoreBatch is how many keys one pipeline of a rebuild sets.
	restoreBatch = 500
	// restoreTimeout bounds one pipeline of a rebuild, which no publish waits for.
	restoreTimeout = 5 * time.Second
	// lockLife is how long a rebuild's lock outlives its holder.
	lockLife = 5 * time.Second
	// maxHealPause is the longest pause between two tries of a rebuild that fails.
	maxHealPause = 30 * time.Second
	// trimmedPause is the pause between two tries while EVENTS does not reach back far enough.
	trimmedPause = 10 * time.Minute
)

// errTrimmed says that keys cannot be put back because their events were removed to make room. The
// window is whole again when theirs is over; until then receipts say that it is not.
var errTrimmed = errors.New("EVENTS was full, and what made room for more is not known any more")

// finishedOf is the finished key that an event of EVENTS stands for; ok is false if it has none,
// or if its window is over. The window returned is what is left of it.
func (c Config) finishedOf(ev *recordv1.Event, seq uint64, now time.Time) (f Finished, ok bool) {
	if ev.GetDedupKey() == "" || len(ev.GetFingerprint()) != len(f.Fingerprint) {
		return f, false
	}
	id, ok := postrider.EventID(ev.GetId()).ULID()
	if !ok {
		return f, false
	}
	account := postrider.AccountID(ev.GetAccountId())
	left := c.window(account) - now.Sub(ev.GetAcceptTime().AsTime())
	if left < time.Millisecond {
		return f, false
	}
	return Finished{
		Key: KeyOf(account, ev.GetDedupKey()), Account: account, Fingerprint: Fingerprint(ev.GetFingerprint()),
		Event: id, Sequence: seq, Window: left,
	}, true
}

// heal puts missing keys back from EVENTS and then seals the slots. Keys are only set where there
// are none, so traffic goes on meanwhile, and a rebuild that runs twice, side by side or after a
// crash, changes nothing. Every event that the scan does not reach was accepted after it began, by
// a publish that set its key itself.
func (r *Redis) heal(ctx context.Context) {
	began := time.Now()
	broken, gaps := r.missing(began)
	if (len(broken) == 0 && earliest(gaps).IsZero()) || began.Before(r.healAfter) {
		return
	}
	away := r.awayNow()
	lock := rebuildLock{key: rebuildLockKey(max(slices.Index(away[:], false), 0)), token: NewToken()}
	held, err := r.lockRebuild(ctx, lock)
	if err == nil && !held {
		return // another replica is at it; its seal ends the matter for the broken slots
	}
	if err == nil {
		defer r.unlockRebuild(ctx, lock)
		err = r.rebuild(ctx, began, broken, gaps, lock)
	}
	if err == nil || ctx.Err() != nil {
		r.healFails = 0
		return
	}
	r.healFails++
	pause := min(r.cfg.Beat<<min(r.healFails, 10), maxHealPause)
	if errors.Is(err, errTrimmed) {
		pause = trimmedPause
	}
	r.healAfter = time.Now().Add(pause)
	r.log.WarnContext(ctx, "deduplication window not rebuilt yet", slog.Any("error", err), slog.Duration("again_in", pause))
}

// rebuildLock is the lock of one rebuild.
type rebuildLock struct {
	key   string
	token Token
}

// lockRebuild takes the lock that spares replicas the same work; nothing else depends on it.
func (r *Redis) lockRebuild(ctx context.Context, lock rebuildLock) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	err := r.client.SetArgs(ctx, lock.key, lockValue(lock.token), redis.SetArgs{Mode: "NX", TTL: lockLife}).Err()
	if err == redis.Nil { //nolint:errorlint // go-redis returns the value itself
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock the rebuild: %w", err)
	}
	return true, nil
}

// lockValue begins as a pending key's value does, so that the release script frees it.
func lockValue(token Token) string {
	return string([]byte{valueVersion, statePending}) + string(token[:])
}

func (r *Redis) unlockRebuild(ctx context.Context, lock rebuildLock) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Timeout)
	defer cancel()
	// If it fails, the lock goes by itself.
	_ = runScripts(ctx, r.client, []call{{script: releaseScript, keys: []string{lock.key}, args: []any{string(lock.token[:])}}})
}

// rebuild marks the broken slots, scans, and seals what was not lost again in the meantime.
func (r *Redis) rebuild(ctx context.Context, began time.Time, broken []int, gaps [slots]gap, lock rebuildLock) error {
	marks, from, err := r.markSlots(ctx, began, broken, earliest(gaps), lock.token)
	if err != nil {
		return err
	}
	var wanted [slots]bool
	for s := range wanted {
		wanted[s] = !gaps[s].since.IsZero()
	}
	for _, s := range broken {
		wanted[s] = true
	}
	b := restorer{r: r, lock: lock.key, renewed: began}
	err = r.events.Scan(ctx, from, func(seq uint64, ev *recordv1.Event) error {
		f, ok := r.cfg.finishedOf(ev, seq, time.Now())
		if ok && wanted[slotOf(f.Key)] {
			b.pending = append(b.pending, f)
		}
		return b.flush(ctx, restoreBatch)
	})
	if err == nil {
		err = b.flush(ctx, 1)
	}
	if err == nil {
		err = reaches(ctx, r.events, from)
	}
	if err != nil {
		return fmt.Errorf("rebuild the deduplication window: %w", err)
	}
	if err := r.sealSlots(ctx, began, broken, marks, lock.token); err != nil {
		return err
	}
	r.closeGaps(gaps)
	r.logHealed(ctx, began, len(broken), b.count)
	return nil
}

// reaches returns errTrimmed if EVENTS may lack what was stored since a time. It is asked after the
// scan: what was removed before that, the scan did not give.
func reaches(ctx context.Context, events Events, from time.Time) error {
	trimmed, err := events.TrimmedSince(ctx, from)
	if err == nil && trimmed {
		err = errTrimmed
	}
	return err
}

// markSlots says in each broken slot that a rebuild has begun. It returns the server process that
// holds each slot, and the time from which EVENTS has to be read.
func (r *Redis) markSlots(ctx context.Context, began time.Time, broken []int, gap time.Time, token Token) (runs []string, from time.Time, err error) {
	calls := make([]call, len(broken))
	for i, s := range broken {
		calls[i] = call{script: markScript, keys: []string{epochKey(s)}, args: []any{string(token[:])}}
	}
	bounded, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	if len(calls) > 0 {
		if err := runScripts(bounded, r.client, calls); err != nil {
			return nil, from, fmt.Errorf("mark the slots: %w", err)
		}
	}
	from = began
	if !gap.IsZero() {
		from = began.Add(-began.Sub(gap)) // by the monotonic clock: the other may have been stepped since
	}
	runs = make([]string, len(broken))
	for i := range calls {
		reply, err := calls[i].cmd.Slice()
		if err != nil || len(reply) != 3 {
			return nil, from, fmt.Errorf("mark the slots: %w", errValue)
		}
		generation, _ := reply[0].(string)
		age, _ := reply[1].(int64)
		runs[i], _ = reply[2].(string)
		if generation == "" {
			from = began.Add(-r.cfg.Longest) // nothing is left of this slot
		} else if t := began.Add(-time.Duration(age) * time.Millisecond); t.Before(from) {
			from = t
		}
	}
	from = from.Add(-overlap)
	if oldest := began.Add(-r.cfg.Longest - overlap); from.Before(oldest) {
		from = oldest
	}
	return runs, from, nil
}

// sealSlots gives each broken slot a new generation, which tells every replica that it is whole.
func (r *Redis) sealSlots(ctx context.Context, began time.Time, broken []int, runs []string, token Token) error {
	if len(broken) == 0 {
		return nil
	}
	fresh := NewToken()
	generation := hex.EncodeToString(fresh[:])
	calls := make([]call, len(broken))
	for i, s := range broken {
		calls[i] = call{script: sealScript, keys: []string{epochKey(s)}, args: []any{
			string(token[:]), runs[i], generation, strconv.FormatInt(time.Since(began).Milliseconds(), 10),
		}}
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	if err := runScripts(ctx, r.client, calls); err != nil {
		return fmt.Errorf("seal the slots: %w", err)
	}
	lost := 0
	for i, s := range broken {
		counter, err := calls[i].cmd.Int64()
		if err != nil {
			return fmt.Errorf("seal the slots: %w", err)
		}
		if counter == 0 {
			lost++
			continue
		}
		r.sealed(s, generation, counter)
	}
	if lost > 0 {
		return fmt.Errorf("%d slots were lost again while they were rebuilt", lost)
	}
	return nil
}

// restorer collects finished keys and sets those that are absent.
type restorer struct {
	r       *Redis
	lock    string // its key
	pending []Finished
	count   int
	renewed time.Time
}

// flush sets what has been collected once there are at least atLeast of them.
func (b *restorer) flush(ctx context.Context, atLeast int) error {
	if now := time.Now(); now.Sub(b.renewed) > lockLife/3 {
		b.renewed = now
		_ = b.r.client.PExpire(ctx, b.lock, lockLife).Err() // see lockRebuild
	}
	if len(b.pending) < atLeast || len(b.pending) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, restoreTimeout)
	defer cancel()
	pipe := b.r.client.Pipeline()
	for i := range b.pending {
		f := &b.pending[i]
		v := finishedValue(f, incarnationOf(b.r.events, f.Account))
		pipe.SetNX(ctx, redisKey(f.Key), v.encode(), f.Window)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("set %d keys: %w", len(b.pending), err)
	}
	b.count += len(b.pending)
	b.pending = b.pending[:0]
	return nil
}
