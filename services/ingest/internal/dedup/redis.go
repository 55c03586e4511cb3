package dedup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postrider/postrider/pkg/redisconn"
)

// keyspace is where all keys stand. The braces are the hash tag that keeps a slot's keys on one
// node of a cluster: postrider:dedup:{d07}:<16 bytes>, postrider:dedup:{d07}:epoch.
const keyspace = "postrider:dedup:"

// slots is how many parts the keyspace has. Each has an epoch of its own, because each may stand
// on another node and be lost alone.
const slots = 16

// slotTags are the common prefixes of the slots' keys.
var slotTags = func() (tags [slots]string) {
	for i := range tags {
		tags[i] = fmt.Sprintf("%s{d%02d}:", keyspace, i)
	}
	return tags
}()

func slotOf(k Key) int { return int(k[0]) % slots }

func redisKey(k Key) string { return slotTags[slotOf(k)] + string(k[:]) }

func epochKey(slot int) string { return slotTags[slot] + "epoch" }

// rebuildLockKey keeps replicas from rebuilding the same window side by side. It is in the first
// slot that can be reached.
func rebuildLockKey(slot int) string { return slotTags[slot] + "rebuild" }

// RedisConfig is what the Redis index needs beside the common configuration.
type RedisConfig struct {
	Config
	// Timeout bounds every round trip on the path of a publish. Defaults to 250 ms.
	Timeout time.Duration
	// Beat is how often each slot's epoch is read and moved on, and how often Redis is tried
	// again while it is away. Defaults to 1 s.
	Beat time.Duration
	// Settle is how long after the last blind publish its event may still be on the way to
	// EVENTS: at least the publish budget. Defaults to 10 s.
	Settle time.Duration
}

// DefaultRedis returns the defaults.
func DefaultRedis() RedisConfig {
	return RedisConfig{
		Config:  Config{Takeover: 15 * time.Second, Longest: 24 * time.Hour},
		Timeout: 250 * time.Millisecond, Beat: time.Second, Settle: 10 * time.Second,
	}
}

// Redis is the index that replicas share.
//
// Each answer on the path of a publish takes one round trip of bounded time. The first that fails
// shuts the path off (away): publishes then go on blind at no cost, and only the beat, which runs
// beside them, tries Redis again. In a cluster that is so for the slots of the node that failed;
// those of the others know nothing of it.
type Redis struct {
	client redis.UniversalClient
	cfg    RedisConfig
	events Events
	log    *slog.Logger

	away    [slots]atomic.Bool
	refused atomic.Bool   // it was logged that Redis refuses
	wake    chan struct{} // asks for a beat now
	cancel  context.CancelFunc
	work    sync.WaitGroup
	healing atomic.Bool // held by the one rebuild of this replica, which alone uses the next two

	healAfter time.Time
	healFails int

	mu    sync.Mutex
	views [slots]slotView
	gaps  [slots]gap
}

var _ Index = (*Redis)(nil)

// NewRedis returns the index; it does not talk to Redis before Start.
func NewRedis(client redis.UniversalClient, cfg RedisConfig, events Events, log *slog.Logger) (*Redis, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("deduplication index: %w", err)
	}
	if cfg.Timeout <= 0 || cfg.Beat <= 0 || cfg.Settle < 0 {
		return nil, errors.New("deduplication index: timeout and beat must be positive")
	}
	if client == nil || events == nil || log == nil {
		return nil, errors.New("deduplication index: client, events and log are required")
	}
	return &Redis{client: client, cfg: cfg, events: events, log: log, wake: make(chan struct{}, 1)}, nil
}

// Claim asks with SET NX GET for the keys that are asked for the first time, which settles nearly
// all in one round trip, and with the claim script for the others. The epochs of the slots are
// read last, so that a flush in between makes an answer degraded and never passes for a whole
// window.
func (r *Redis) Claim(ctx context.Context, claims []Claim, results []Result) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	away := r.awayNow()
	before := r.viewsNow()
	again := r.claimAgain(ctx, claims, &away)
	first := make([]*redis.StatusCmd, len(claims))
	var touched [slots]*redis.SliceCmd
	pipe := r.client.Pipeline()
	for i := range claims {
		if c := &claims[i]; !c.Again && !away[slotOf(c.Key)] {
			fresh := pendingValue(c, incarnationOf(r.events, c.Account), r.cfg.Takeover)
			first[i] = pipe.SetArgs(ctx, redisKey(c.Key), fresh.encode(), redis.SetArgs{Mode: "NX", Get: true, TTL: c.Window})
		}
	}
	for i := range claims {
		if s := slotOf(claims[i].Key); touched[s] == nil && !away[s] {
			touched[s] = pipe.HMGet(ctx, epochKey(s), "g", "c")
		}
	}
	_, _ = pipe.Exec(ctx) // each command holds its own error
	degraded := r.observeAll(&before, &touched)
	r.readAnswers(ctx, claims, results, first, again, degraded, &away)
}

// claimAgain runs the claim script for the claims that were pending before.
func (r *Redis) claimAgain(ctx context.Context, claims []Claim, away *[slots]bool) []call {
	var calls []call
	for i := range claims {
		if c := &claims[i]; c.Again && !away[slotOf(c.Key)] {
			fresh := pendingValue(c, incarnationOf(r.events, c.Account), r.cfg.Takeover)
			calls = append(calls, call{script: claimScript, keys: []string{redisKey(c.Key)}, args: []any{
				fresh.encode(), c.Window.Milliseconds(), r.cfg.Takeover.Milliseconds(),
			}})
		}
	}
	if len(calls) > 0 {
		_ = runScripts(ctx, r.client, calls) // each call holds its own error
	}
	return calls
}

// readAnswers turns replies into results; a claim without a reply is blind.
func (r *Redis) readAnswers(
	ctx context.Context, claims []Claim, results []Result, first []*redis.StatusCmd, again []call, degraded, away *[slots]bool,
) {
	var blind [slots]bool
	var causes [slots]error
	failed, next := 0, 0
	for i := range claims {
		c, s := &claims[i], slotOf(claims[i].Key)
		if away[s] {
			results[i] = Result{Outcome: Blind, Event: c.Event, Degraded: true}
			blind[s] = true
			continue
		}
		var err error
		if c.Again {
			results[i], err = r.scriptAnswer(again[next].cmd, c)
			next++
		} else {
			results[i], err = r.firstAnswer(first[i], c)
		}
		if err != nil {
			results[i] = Result{Outcome: Blind, Event: c.Event}
			blind[s], causes[s] = true, err
			failed++
		}
		results[i].Degraded = degraded[s] || err != nil
	}
	r.noteBlind(time.Now(), &blind)
	if failed > 0 {
		r.failed(ctx, "claim", &causes, failed)
	}
}

// firstAnswer reads the reply to SET NX GET: nil if the key was set.
func (r *Redis) firstAnswer(cmd *redis.StatusCmd, c *Claim) (Result, error) {
	standing, err := cmd.Result()
	if errors.Is(err, redis.Nil) {
		return Result{Outcome: Claimed, Event: c.Event}, nil
	}
	if err != nil {
		return Result{}, err
	}
	v, err := decodeValue(standing)
	if err != nil {
		return Result{}, err
	}
	return v.answer(c, incarnationOf(r.events, c.Account)), nil
}

// scriptAnswer reads the reply of the claim script.
func (r *Redis) scriptAnswer(cmd *redis.Cmd, c *Claim) (Result, error) {
	reply, err := cmd.Slice()
	if err != nil {
		return Result{}, err
	}
	if len(reply) != 3 {
		return Result{}, errValue
	}
	how, _ := reply[0].(int64)
	text, _ := reply[1].(string)
	left, _ := reply[2].(int64)
	v, err := decodeValue(text)
	if err != nil {
		return Result{}, err
	}
	switch how {
	case 1:
		return Result{Outcome: Claimed, Event: v.event}, nil
	case 2:
		return Result{Outcome: TakenOver, Event: v.event, Age: max(v.life-time.Duration(left)*time.Millisecond, 0)}, nil
	}
	return v.answer(c, incarnationOf(r.events, c.Account)), nil
}

// Finish turns pending keys into finished ones, one script call for each slot.
func (r *Redis) Finish(ctx context.Context, done []Finished) error {
	var calls [slots]call
	for i := range done {
		d := &done[i]
		v := finishedValue(d, incarnationOf(r.events, d.Account))
		c := &calls[slotOf(d.Key)]
		c.keys = append(c.keys, redisKey(d.Key))
		c.args = append(c.args, string(d.Token[:]), v.encode(), d.Window.Milliseconds())
	}
	return r.settle(ctx, "finish", finishScript, &calls, len(done))
}

// Release frees pending keys, one script call for each slot.
func (r *Redis) Release(ctx context.Context, released []Released) error {
	var calls [slots]call
	for i := range released {
		c := &calls[slotOf(released[i].Key)]
		c.keys = append(c.keys, redisKey(released[i].Key))
		c.args = append(c.args, string(released[i].Token[:]))
	}
	return r.settle(ctx, "release", releaseScript, &calls, len(released))
}

// settle runs one script over all slots that have keys.
func (r *Redis) settle(ctx context.Context, what string, script *redis.Script, bySlot *[slots]call, n int) error {
	if n == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	var left error
	calls := make([]call, 0, slots)
	for s := range bySlot {
		switch {
		case len(bySlot[s].keys) == 0:
		case r.away[s].Load():
			left = ErrAway
		default:
			bySlot[s].script, bySlot[s].slot = script, s
			calls = append(calls, bySlot[s])
		}
	}
	if len(calls) == 0 {
		return left
	}
	err := runScripts(ctx, r.client, calls)
	if cut := oneByOne(calls); cut != nil {
		calls = cut
		err = runScripts(ctx, r.client, calls)
	}
	if err != nil {
		r.failed(ctx, what, failures(calls), n)
		return errors.Join(ErrAway, err)
	}
	return left
}

// failed notes that Redis did not do what was asked, by slot. A server that answers with an error of
// its own (out of memory, say) is not away: asking it costs no time, and other keys may succeed.
func (r *Redis) failed(ctx context.Context, what string, causes *[slots]error, n int) {
	for s, err := range causes {
		switch {
		case err == nil:
		case answered(err):
			if !r.refused.Swap(true) {
				r.log.WarnContext(ctx, "deduplication index refused", slog.String("operation", what), slog.Int("keys", n), slog.Any("error", err))
			}
		default:
			if left := r.leave(ctx, s); left > 0 {
				r.log.WarnContext(ctx, "deduplication index is away; publishing goes on under the record's own window",
					slog.String("operation", what), slog.Int("keys", n), slog.Int("slots", left), slog.Any("error", err))
			}
		}
	}
}

// leave marks a slot as away, and with it the others of its node, so that not each of them costs a
// publish the timeout. It returns how many were not away before.
func (r *Redis) leave(ctx context.Context, slot int) (left int) {
	for s := range slots {
		if (s == slot || redisconn.Together(ctx, r.client, epochKey(s), epochKey(slot))) && !r.away[s].Swap(true) {
			left++
		}
	}
	return left
}

// awayNow is which slots cannot be asked at this moment.
func (r *Redis) awayNow() (away [slots]bool) {
	for s := range away {
		away[s] = r.away[s].Load()
	}
	return away
}

// answered reports whether err is the server's own reply and one that the next command may not get.
func answered(err error) bool {
	if errors.Is(err, errValue) {
		return true
	}
	var reply redis.Error
	if !errors.As(err, &reply) || errors.Is(err, redis.ErrClosed) {
		return false
	}
	for _, prefix := range []string{"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOAUTH", "WRONGPASS"} {
		if redis.HasErrorPrefix(err, prefix) {
			return false
		}
	}
	return true
}

// Start looks at Redis once, so that the first publish knows where it stands, and begins the beat.
func (r *Redis) Start(ctx context.Context) error {
	ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	r.beat(ctx)
	r.work.Go(func() { r.run(ctx) })
	return nil
}

// Stop ends the beat and a rebuild that is under way; the next process begins it again.
func (r *Redis) Stop(context.Context) error {
	if r.cancel != nil {
		r.cancel()
	}
	r.work.Wait()
	return nil
}

// epochReply reads HMGET g c.
func epochReply(cmd *redis.SliceCmd) (generation string, counter int64, err error) {
	fields, err := cmd.Result()
	if err != nil {
		return "", 0, err
	}
	if len(fields) != 2 {
		return "", 0, errValue
	}
	generation, _ = fields[0].(string)
	if text, ok := fields[1].(string); ok {
		counter, err = strconv.ParseInt(text, 10, 64)
	}
	return generation, counter, err
}
