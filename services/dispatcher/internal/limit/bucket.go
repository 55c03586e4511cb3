package limit

import (
	"math"
	"time"
)

// Bucket is a token bucket: rate attempts a second, with bursts of a tenth of a second's worth
// and at least one. A rate of zero means no limit. Its owner guards it against concurrent use.
type Bucket struct {
	rate   float64
	burst  float64
	tokens float64
	last   time.Time
}

// NewBucket returns a full bucket.
func NewBucket(rate float64, now time.Time) Bucket {
	var b Bucket
	b.SetRate(rate, now)
	b.tokens = b.burst
	return b
}

// Rate is attempts a second, 0 for no limit.
func (b *Bucket) Rate() float64 { return b.rate }

// SetRate changes the rate. What is saved up stays, as far as the new burst allows.
func (b *Bucket) SetRate(rate float64, now time.Time) {
	if math.IsNaN(rate) || rate < 0 {
		rate = 0
	}
	b.fill(now)
	b.rate = rate
	b.burst = max(1, rate/10)
	b.tokens = min(b.tokens, b.burst)
}

// Take takes a token if there is one.
func (b *Bucket) Take(now time.Time) bool {
	if b.rate == 0 {
		return true
	}
	b.fill(now)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// Return gives a token back that was taken for nothing.
func (b *Bucket) Return() { b.tokens = min(b.tokens+1, b.burst) }

// Wait is how long it takes until a token is there for one who has ahead others before them.
func (b *Bucket) Wait(now time.Time, ahead int) time.Duration {
	if b.rate == 0 {
		return 0
	}
	b.fill(now)
	missing := float64(ahead) + 1 - b.tokens
	if missing <= 0 {
		return 0
	}
	seconds := missing / b.rate
	if seconds >= math.MaxInt64/float64(time.Second) {
		return math.MaxInt64
	}
	wait := time.Duration(math.Ceil(seconds * float64(time.Second)))
	if b.tokens+wait.Seconds()*b.rate < float64(ahead)+1 {
		wait++ // the token would be a rounding error short
	}
	return wait
}

func (b *Bucket) fill(now time.Time) {
	if passed := now.Sub(b.last); passed > 0 {
		b.tokens = min(b.burst, b.tokens+passed.Seconds()*b.rate)
		b.last = now
	}
}
