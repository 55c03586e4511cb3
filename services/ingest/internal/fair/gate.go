// Package fair admits events by account while the system is full, so that the flood of one account
// does not become the wait of another. It owns a count for each account that published in the last
// ten seconds. Losing it, with the process, costs a second in which everybody may publish.
package fair

import (
	"errors"
	"sync"
	"time"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/postrider"
)

// Config says when the system is full.
type Config struct {
	// Backlog is how many events may wait to be routed, or deliveries for a dispatcher, before shares
	// are enforced; 0 for never. Default 2 000.
	Backlog int `conf:"backlog" help:"events or deliveries that may wait for a router or a dispatcher before accounts are held to their shares; 0 for never"`
	// Late is by how much routers or dispatchers may come later than they could to what waits for them,
	// before shares are enforced; 0 to go by the backlog alone. Default 10 ms. Ten times that while all of it is of
	// one account.
	Late time.Duration `conf:"late" help:"by how much later than they could routers or dispatchers may come to what waits for them before accounts are held to their shares; 0 to go by the backlog alone"`
	// Every is how often the backlog is asked for. Default 250 ms.
	Every time.Duration `conf:"every" help:"how often the backlog is asked for"`
}

// Default returns the defaults.
func Default() Config {
	return Config{Backlog: 2000, Late: 10 * time.Millisecond, Every: 250 * time.Millisecond}
}

// Validate reports every fault.
func (c Config) Validate() error {
	return errors.Join(
		conf.Between("backlog", c.Backlog, 0, 10_000_000),
		conf.Between("late", c.Late, 0, time.Minute),
		conf.Between("every", c.Every, 10*time.Millisecond, 10*time.Second),
	)
}

const (
	// active is how long an account counts that publishes nothing any more.
	active = 10 * time.Second
	// saved is how much of its share an account that publishes less may save up; lump, but as much as leastLump
	// events, is that of one that was refused within that time: what it saved would come at once, and everybody
	// wait behind it.
	saved     = time.Second
	lump      = 15 * time.Millisecond
	leastLump = 32
	// mostAccounts bounds what is kept; accounts beyond it share one share.
	mostAccounts = 1 << 17
	// shrink and grow change the factor of the capacity, which stays between least and most: what
	// falls by multiplication and rises by addition comes to the same at ingests that began apart.
	shrink, grow = 0.8, 0.1
	least, most  = 0.05, 1.5
	// mostPull is the part of the capacity that is left however much waits.
	mostPull = 0.25
	// vouched is the part of what passes that is shared out evenly whatever the factor: what a flood has
	// piled up is made good by who is above that.
	vouched = 1.0 / 3
	// mostStalled is how many turns in a row nothing may pass before there is nothing to share out.
	mostStalled = 8
	// fresh is the weight of a turn in an average.
	fresh = 0.5
	// leastWait and mostWait bound what a refused producer is told. Up to spread, those that are refused of one
	// account are told times one behind the other, each with room for so many: a batch asks again for as
	// much as it was refused and for what it was given, and refusing costs work too.
	leastWait, mostWait = 20 * time.Millisecond, 30 * time.Second
	spread, roomy       = time.Second, 2
)

// Stage is a place where what was accepted queues up.
type Stage struct {
	// Waiting is what nobody has taken yet.
	Waiting uint64
	// Passed is how much was ever taken and dealt with. What is taken at once and dealt with later says
	// nothing of the pace.
	Passed uint64
}

// State is what a gate shows of itself.
type State struct {
	// Limiting says that the system is full.
	Limiting bool
	// Share is how many events a second an account may publish here while it is; 0 while it is not.
	Share float64
}

// Gate admits events by account. It is safe for concurrent use.
//
// While more waits than may, the capacity is what passes the fullest stage, in events a second, times
// a factor. It falls by a fifth at each turn at which the backlog has grown, and rises by a tenth of the
// whole at each at which less than half of the bound waits; when then nobody was refused, the gate
// opens. Far above the bound the capacity is cut further, so that the backlog is worked off. It is
// shared out by Level. It is that of the whole system at each ingest, and the factor, which all
// ingests reckon from the same readings, makes up for what others let in: no ingest has to know of
// another, and the level is about the same at all of them. Whoever publishes no more than a third of an equal
// part of what passes is not refused, however far the flood of another has gone.
//
// Long before a backlog is there, those who deal with what waits are late; see Late.
type Gate struct {
	cfg    Config
	shared func() bool

	mu       sync.Mutex
	accounts map[postrider.AccountID]*account
	touched  []*account // that asked in this turn
	demands  []float64  // events a second that each asked for in the last turn
	number   uint64     // of this turn
	began    time.Time
	swept    time.Time
	admitted int // in this turn
	refused  int
	last     []Stage
	limiting bool
	// backlogged says that more waits than may.
	backlogged bool
	fan        []float64 // of each stage, what comes there for an event
	passing    float64   // events a second that pass the fullest stage
	factor     float64
	stalled    int     // turns in which nothing passed
	pull       float64 // below 1 while much more waits than may
	late       lateness
	level      float64
}

// account is what is kept of one.
type account struct {
	turn   uint64    // in which it asked last
	asked  int       // in that turn
	tokens float64   // events that it may publish now
	filled time.Time // when they were reckoned, and it asked last
	over   time.Time // when it was refused last
	next   time.Time // when the one that was refused last may ask again
}

// New returns a gate that is open. Shared says whether there is more than one account: one alone has
// nobody to share with, and a backlog of its own harms no other.
func New(cfg Config, shared func() bool, now time.Time) *Gate {
	return &Gate{
		cfg: cfg, shared: shared, accounts: map[postrider.AccountID]*account{}, began: now, swept: now, factor: 1, pull: 1,
		late: lateness{pull: 1},
	}
}

// Take asks to publish one event. If the account is over its share, wait is when it may ask again.
func (g *Gate) Take(id postrider.AccountID, now time.Time) (wait time.Duration, ok bool) {
	if g.cfg.Backlog == 0 {
		return 0, true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.account(id, now)
	a.asked++
	if !g.enforced() {
		a.filled = now
		g.admitted++
		return 0, true
	}
	burst := g.level * saved.Seconds()
	if now.Sub(a.over) < saved {
		burst = min(burst, max(leastLump, g.level*lump.Seconds()))
	}
	burst = max(1, burst)
	a.tokens = min(burst, a.tokens+now.Sub(a.filled).Seconds()*g.level)
	a.filled = now
	if a.tokens < 1 {
		g.refused++
		a.over = now
		return g.wait(a, now), false
	}
	a.tokens--
	g.admitted++
	return 0, true
}

// enforced says whether there are shares.
func (g *Gate) enforced() bool { return g.limiting && g.shared() }

// wait is when the account may ask again for what was refused now: when a token is there, and behind what
// was refused before it. Told the same time, all would come back at once.
func (g *Gate) wait(a *account, now time.Time) time.Duration {
	token := seconds((1 - a.tokens) / g.level)
	if a.next.Before(now) {
		a.next = now
	}
	a.next = a.next.Add(min(seconds(roomy/g.level), spread))
	if latest := now.Add(spread); a.next.After(latest) {
		a.next = latest
	}
	return min(max(leastWait, token, a.next.Sub(now)), mostWait)
}

// seconds is a time of at most mostWait.
func seconds(s float64) time.Duration {
	return time.Duration(min(s, mostWait.Seconds()) * float64(time.Second))
}

func (g *Gate) account(id postrider.AccountID, now time.Time) *account {
	a := g.accounts[id]
	if a == nil && len(g.accounts) >= mostAccounts {
		id = ""
		a = g.accounts[id]
	}
	if a == nil {
		a = &account{tokens: g.level * saved.Seconds(), filled: now}
		g.accounts[id] = a
	}
	if a.turn != g.number || a.asked == 0 {
		a.turn, a.asked = g.number, 0
		g.touched = append(g.touched, a)
	}
	return a
}

// Turn takes a reading of the stages, which are the same ones at each turn. Call it from one
// goroutine.
func (g *Gate) Turn(now time.Time, stages []Stage) {
	g.mu.Lock()
	defer g.mu.Unlock()
	elapsed := now.Sub(g.began).Seconds()
	if elapsed <= 0 {
		return
	}
	was := g.limiting
	g.judge(now, stages, elapsed)
	g.last = append(g.last[:0], stages...)
	g.asked(elapsed)
	g.share()
	if g.limiting && !was {
		g.closed(now, elapsed)
	}
	g.next(now)
}

// closed gives out the first tokens of a gate that has just closed: to those that ask for more than their
// share none that they could have saved.
func (g *Gate) closed(now time.Time, elapsed float64) {
	for _, a := range g.accounts {
		a.filled = now
		if a.turn == g.number && float64(a.asked) > g.level*elapsed {
			a.tokens, a.over = 0, now
			continue
		}
		a.tokens = g.level * elapsed
	}
}

// Unknown is a turn without a reading: what is not known limits nobody.
func (g *Gate) Unknown(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limiting, g.level, g.last = false, 0, g.last[:0]
	g.next(now)
}

// State shows the gate.
func (g *Gate) State() State {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.enforced() {
		return State{}
	}
	return State{Limiting: true, Share: g.level}
}

// judge says whether the system is full, and what passes.
func (g *Gate) judge(now time.Time, stages []Stage, elapsed float64) {
	var fullest int
	for i, s := range stages {
		if s.Waiting > stages[fullest].Waiting {
			fullest = i
		}
	}
	g.fans(stages)
	bound := uint64(g.cfg.Backlog) //nolint:gosec // checked by Validate
	waiting, known := stages[fullest].Waiting, len(g.last) == len(stages)
	events := 0.0 // a second, that passed
	if known && stages[fullest].Passed > g.last[fullest].Passed {
		events = float64(stages[fullest].Passed-g.last[fullest].Passed) / elapsed / g.fan[fullest]
	}
	g.pull, g.backlogged = 1, waiting > bound
	switch {
	case g.backlogged:
		if !g.limiting && known && (events > 0 || g.stalled == 0) {
			g.limiting = true
			if g.passing == 0 || events == 0 {
				g.passing = max(events, float64(g.admitted)/elapsed)
			}
		}
		if events == 0 {
			// Nobody works on the stage, which says nothing of what could pass. If that lasts, there is
			// nothing to share out, and EVENTS takes what comes.
			if g.stalled++; g.stalled >= mostStalled {
				g.limiting = false
			}
			return
		}
		g.stalled = 0
		g.passing += (events - g.passing) * fresh
		if waiting >= g.last[fullest].Waiting {
			g.factor = max(g.factor*shrink, least)
		}
		// Far above the bound less is let in than passes, down to a quarter.
		g.pull = pull(float64(waiting)/float64(bound), mostPull)
	case g.limiting && g.late.ratio(now) > 1:
		g.stalled = 0
		g.pass(events)
	case waiting < bound/2:
		g.stalled = 0
		g.passing = max(g.passing, events)
		if !g.late.known(now) { // else it is what moves the factor
			g.factor = min(g.factor+grow, most)
		}
		if g.refused == 0 {
			g.limiting = false
		}
	}
}

// pull is the part of the capacity that is left when so many times as much waits as may, at least most.
func pull(times, most float64) float64 {
	if times <= 1 {
		return 1
	}
	return max(2/(1+times), most)
}

// fans measures how much comes to each stage for an event that passes the first.
func (g *Gate) fans(stages []Stage) {
	if len(g.last) != len(stages) {
		g.fan = g.fan[:0]
		for range stages {
			g.fan = append(g.fan, 1)
		}
		return
	}
	for i := 1; i < len(stages); i++ {
		events := float64(stages[0].Passed) - float64(g.last[0].Passed)
		came := float64(stages[i].Passed) + float64(stages[i].Waiting) - float64(g.last[i].Passed) - float64(g.last[i].Waiting)
		if events > 0 && came > 0 {
			g.fan[i] += (came/events - g.fan[i]) * fresh
		}
	}
}

// asked reckons what each account asked for in this turn.
func (g *Gate) asked(elapsed float64) {
	g.demands = g.demands[:0]
	for _, a := range g.touched {
		g.demands = append(g.demands, float64(a.asked)/elapsed)
	}
}

// share reckons the level from what was asked for in the last turn.
func (g *Gate) share() {
	g.level = 0
	if !g.limiting {
		return
	}
	g.level = Level(g.demands, max(1, g.passing*g.factor*g.pull*g.late.pull))
	if n := len(g.demands); n > 0 {
		g.level = max(g.level, vouched*g.passing/float64(n))
	}
	if !g.backlogged {
		g.level = max(g.level, untouched)
	}
}

// next begins a turn, and forgets accounts that publish nothing any more.
func (g *Gate) next(now time.Time) {
	g.number++
	g.began, g.admitted, g.refused = now, 0, 0
	clear(g.touched)
	g.touched = g.touched[:0]
	if now.Sub(g.swept) < active/4 {
		return
	}
	g.swept = now
	for id, a := range g.accounts {
		if now.Sub(a.filled) > active {
			delete(g.accounts, id)
		}
	}
}
