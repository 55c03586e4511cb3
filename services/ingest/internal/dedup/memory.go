package dedup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// MemoryConfig is what the in-process index needs beside the common configuration.
type MemoryConfig struct {
	Config
	// MaxKeys bounds the memory; above it the keys that would end first go first, and the window
	// counts as degraded until they would have ended. Defaults to 1 000 000, about 200 MB.
	MaxKeys int
}

// DefaultMemory returns the defaults.
func DefaultMemory() MemoryConfig {
	return MemoryConfig{Config: Config{Takeover: 15 * time.Second, Longest: 24 * time.Hour}, MaxKeys: 1_000_000}
}

// Memory is the index of a single process. It is empty at start and always rebuilt from EVENTS.
// Its only clock is the monotonic one.
type Memory struct {
	cfg    MemoryConfig
	events Events
	log    *slog.Logger
	start  time.Time
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu          sync.Mutex
	keys        map[Key]memoryKey
	ends        map[int64][]Key // by the second since start in which they end
	swept       int64           // every second before this one is gone from ends
	rebuilding  bool
	shortenedTo time.Duration // keys that would have ended before this were dropped, or could not be put back
}

// memoryKey is a key's value; times count from the start of the process.
type memoryKey struct {
	value
	claimed time.Duration // pending: when it was first claimed
	takeDue time.Duration // pending: from when on it may be taken over
	ends    time.Duration
}

var _ Index = (*Memory)(nil)

// NewMemory returns the index.
func NewMemory(cfg MemoryConfig, events Events, log *slog.Logger) (*Memory, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("deduplication index: %w", err)
	}
	if cfg.MaxKeys < 1 {
		return nil, errors.New("deduplication index: it must hold at least one key")
	}
	if events == nil || log == nil {
		return nil, errors.New("deduplication index: events and log are required")
	}
	return &Memory{
		cfg: cfg, events: events, log: log, start: time.Now(), rebuilding: true,
		keys: make(map[Key]memoryKey), ends: make(map[int64][]Key),
	}, nil
}

// Claim asks for keys.
func (m *Memory) Claim(_ context.Context, claims []Claim, results []Result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Since(m.start)
	_, degraded := m.degraded(now)
	for i := range claims {
		results[i] = m.claim(&claims[i], now)
		results[i].Degraded = degraded
	}
}

// claim follows the same rules as claim.lua.
func (m *Memory) claim(c *Claim, now time.Duration) Result {
	in := incarnationOf(m.events, c.Account)
	standing, ok := m.keys[c.Key]
	if ok && standing.ends <= now {
		ok = false
	}
	if !ok || (standing.state == stateFinished && standing.incarnation != in) {
		m.put(c.Key, memoryKey{
			value: pendingValue(c, in, m.cfg.Takeover), claimed: now, takeDue: now + m.cfg.Takeover, ends: now + c.Window,
		}, now)
		return Result{Outcome: Claimed, Event: c.Event}
	}
	if standing.state == statePending && standing.token != c.Token && now >= standing.takeDue {
		standing.token, standing.fingerprint, standing.incarnation = c.Token, c.Fingerprint, in
		standing.takeDue = now + m.cfg.Takeover
		m.keys[c.Key] = standing
	}
	if standing.state == statePending && standing.token == c.Token && standing.event != c.Event {
		return Result{Outcome: TakenOver, Event: standing.event, Age: now - standing.claimed}
	}
	return standing.answer(c, in)
}

// Finish turns claims into finished keys.
func (m *Memory) Finish(_ context.Context, done []Finished) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Since(m.start)
	for i := range done {
		d := &done[i]
		standing, ok := m.keys[d.Key]
		if ok && standing.ends > now && (standing.state != statePending || standing.token != d.Token) {
			continue
		}
		m.put(d.Key, memoryKey{value: finishedValue(d, incarnationOf(m.events, d.Account)), ends: now + d.Window}, now)
	}
	return nil
}

// Release frees pending keys.
func (m *Memory) Release(_ context.Context, released []Released) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range released {
		if standing, ok := m.keys[d.Key]; ok && standing.state == statePending && standing.token == d.Token {
			delete(m.keys, d.Key)
		}
	}
	return nil
}

// put sets a key and makes room for it.
func (m *Memory) put(k Key, v memoryKey, now time.Duration) {
	m.sweep(now)
	if _, ok := m.keys[k]; !ok && len(m.keys) >= m.cfg.MaxKeys {
		m.evict()
	}
	m.keys[k] = v
	second := endSecond(v.ends)
	m.ends[second] = append(m.ends[second], k)
	m.swept = min(m.swept, second) // making room may have gone ahead of it
}

// endSecond is the second after which a key that ends then is gone.
func endSecond(ends time.Duration) int64 { return int64(ends/time.Second) + 1 }

// sweep forgets the keys whose second is over. A key is listed once for each time it was set, so
// what counts is its own end.
func (m *Memory) sweep(now time.Duration) {
	for this := int64(now / time.Second); m.swept < this; m.swept++ {
		m.drop(m.swept, now)
	}
}

// drop forgets the keys listed for one second that end before limit.
func (m *Memory) drop(second int64, limit time.Duration) {
	for _, k := range m.ends[second] {
		if v, ok := m.keys[k]; ok && v.ends <= limit {
			delete(m.keys, k)
		}
	}
	delete(m.ends, second)
}

// evict makes room for at least one key in a hundred: those that would end first.
func (m *Memory) evict() {
	room := m.cfg.MaxKeys - max(m.cfg.MaxKeys/100, 1)
	for ; len(m.ends) > 0 && len(m.keys) > room; m.swept++ {
		if len(m.ends[m.swept]) == 0 {
			continue
		}
		end := time.Duration(m.swept) * time.Second
		m.shortenedTo = max(m.shortenedTo, end)
		m.drop(m.swept, end)
	}
}

// Degraded says why the window is not whole.
func (m *Memory) Degraded() (reason string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.degraded(time.Since(m.start))
}

func (m *Memory) degraded(now time.Duration) (reason string, ok bool) {
	switch {
	case m.rebuilding:
		return "rebuilding", true
	case now < m.shortenedTo:
		return "full", true
	}
	return "", false
}

// Start begins to rebuild the window and returns.
func (m *Memory) Start(ctx context.Context) error {
	ctx, m.cancel = context.WithCancel(context.WithoutCancel(ctx))
	m.work.Go(func() { m.rebuild(ctx) })
	return nil
}

// Stop ends a rebuild that is under way.
func (m *Memory) Stop(context.Context) error {
	if m.cancel != nil {
		m.cancel()
	}
	m.work.Wait()
	return nil
}

// rebuild scans EVENTS until it succeeds once.
func (m *Memory) rebuild(ctx context.Context) {
	began := time.Now()
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, maxHealPause) {
		keys, err := m.scan(ctx)
		if err == nil {
			m.mu.Lock()
			m.rebuilding = false
			m.mu.Unlock()
			m.log.InfoContext(ctx, "deduplication window rebuilt", slog.Int("keys", keys), slog.Duration("took", time.Since(began)))
			return
		}
		if ctx.Err() != nil {
			return
		}
		m.log.WarnContext(ctx, "deduplication window not rebuilt yet", slog.Any("error", err), slog.Duration("again_in", pause))
		wait := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
	}
}

// scan sets a finished key for each event of the window that has none. Publishes go on meanwhile
// and set their own.
func (m *Memory) scan(ctx context.Context) (keys int, err error) {
	from := time.Now().Add(-m.cfg.Longest - overlap)
	err = m.events.Scan(ctx, from, func(seq uint64, ev *recordv1.Event) error {
		f, ok := m.cfg.finishedOf(ev, seq, time.Now())
		if !ok {
			return nil
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		now := time.Since(m.start)
		if standing, ok := m.keys[f.Key]; !ok || standing.ends <= now {
			m.put(f.Key, memoryKey{value: finishedValue(&f, incarnationOf(m.events, f.Account)), ends: now + f.Window}, now)
			keys++
		}
		return nil
	})
	if err == nil {
		err = reaches(ctx, m.events, from)
	}
	if errors.Is(err, errTrimmed) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.shortenedTo = max(m.shortenedTo, time.Since(m.start)+m.cfg.Longest)
		err = nil
	}
	if err != nil {
		return keys, fmt.Errorf("rebuild the deduplication window: %w", err)
	}
	return keys, nil
}
