// Package limit owns the arithmetic of a webhook's limits: how many attempts at once, and how
// many a second. Its state is one process's memory: losing it costs a new slow start.
package limit

import "time"

// Concurrency is how many attempts a webhook may have at once. It begins low and grows with
// success, so that a receiver that hangs from the start never gets many slots; an overloaded one
// is halved and restored step by step. Its owner guards it against concurrent use.
type Concurrency struct {
	highest   int
	limit     int
	threshold int       // up to here it grows by one for each success, beyond by one for each round
	credit    int       // successes of the current round
	halved    time.Time // when it was last halved
}

// NewConcurrency returns a limit that begins at initial and may grow to highest, both at least 1.
func NewConcurrency(initial, highest int) Concurrency {
	highest = max(1, highest)
	return Concurrency{highest: highest, limit: min(max(1, initial), highest), threshold: highest}
}

// Limit is the limit that holds now.
func (c *Concurrency) Limit() int { return c.limit }

// Reach is the limit that success leads to soon: what slow growth beyond it adds takes rounds.
func (c *Concurrency) Reach() int { return max(c.limit, c.threshold) }

// SetHighest changes how far the limit may grow, and lowers it if it is beyond.
func (c *Concurrency) SetHighest(highest int) {
	highest = max(1, highest)
	if c.threshold == c.highest {
		c.threshold = highest // it was never halved, or is fully restored
	}
	c.highest = highest
	c.threshold = min(c.threshold, highest)
	c.limit = min(c.limit, highest)
}

// Success counts an attempt that succeeded.
func (c *Concurrency) Success() {
	if c.limit >= c.highest {
		c.threshold = c.highest
		return
	}
	if c.limit < c.threshold {
		c.limit++
		return
	}
	if c.credit++; c.credit >= c.limit {
		c.credit = 0
		c.limit++
	}
}

// Overloaded halves the limit because an attempt that began at start met an overloaded receiver.
// Attempts that began before the last halving say nothing about the lower limit.
func (c *Concurrency) Overloaded(start, now time.Time) {
	if start.Before(c.halved) {
		return
	}
	c.limit = max(1, c.limit/2)
	c.threshold, c.credit, c.halved = c.limit, 0, now
}

// Restart lowers the limit to initial, to grow from there: nothing is known of the receiver now.
func (c *Concurrency) Restart(initial int) {
	c.limit = min(c.limit, max(1, initial))
	c.credit = 0
}
