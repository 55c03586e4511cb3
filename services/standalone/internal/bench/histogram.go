package bench

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// precise is how many microseconds have buckets of their own; above, each doubling has half as many.
	precise = 128
	// doublings above precise reach 38 hours, which the last bucket stands for too.
	doublings = 30
	buckets   = precise + doublings*precise/2
)

// histogram counts durations in a fixed number of buckets, each at most 1/64 as wide as what it
// stands for: what is read from it is at most 1.6 % or a microsecond too long, and never too short.
// It is safe for concurrent use.
type histogram struct {
	counts [buckets]atomic.Int64
	max    atomic.Int64 // nanoseconds, exact
}

// add counts a duration; one below zero is zero.
func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(d)].Add(1)
	for {
		longest := h.max.Load()
		if int64(d) <= longest || h.max.CompareAndSwap(longest, int64(d)) {
			return
		}
	}
}

func bucketOf(d time.Duration) int {
	us := uint64(d.Microseconds()) //nolint:gosec // it is not negative
	if us < precise {
		return int(us)
	}
	// The highest 7 bits of the number, the first of which is 1.
	shift := bits.Len64(us) - bits.Len(precise-1)
	return min(precise+(shift-1)*precise/2+int(us>>shift)-precise/2, buckets-1) //nolint:gosec // below 128
}

// longestOf is the longest duration that a bucket stands for.
func longestOf(bucket int) time.Duration {
	if bucket < precise {
		return time.Duration(bucket+1)*time.Microsecond - 1
	}
	shift := (bucket-precise)/(precise/2) + 1
	high := precise/2 + (bucket-precise)%(precise/2)
	return time.Duration((high+1)<<shift)*time.Microsecond - 1
}

// Latencies are how long something took, in milliseconds.
type Latencies struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

// latencies reads the histogram.
func (h *histogram) latencies() Latencies {
	counts := make([]int64, buckets)
	l := Latencies{Max: millis(time.Duration(h.max.Load()))}
	for i := range counts {
		counts[i] = h.counts[i].Load()
		l.Count += counts[i]
	}
	quantile := func(share float64) float64 {
		rank := int64(math.Ceil(share * float64(l.Count)))
		for i, n := range counts {
			if rank -= n; rank <= 0 {
				return min(millis(longestOf(i)), l.Max)
			}
		}
		return l.Max
	}
	l.P50, l.P90, l.P99 = quantile(0.5), quantile(0.9), quantile(0.99)
	return l
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
