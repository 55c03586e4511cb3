package bench

import "maps"

// Result is what a run came to.
type Result struct {
	Method    string  `json:"method"`
	Producers int     `json:"producers"`
	Rate      float64 `json:"rate"` // events a second of an open loop; 0: closed loops
	DataBytes int     `json:"data_bytes"`
	Seconds   float64 `json:"seconds"` // of publishing
	// Accepted events have a receipt.
	Accepted          int64   `json:"accepted"`
	AcceptedPerSecond float64 `json:"accepted_per_second"`
	// Refused events by reason. They were published once and not again.
	Refused map[string]int64 `json:"refused"`
	// Broken streams by reason; what was open on them is unanswered.
	Broken map[string]int64 `json:"broken_streams"`
	// Unanswered events may be stored or not.
	Unanswered int64 `json:"unanswered"`
	// Degraded events were accepted without the long window of deduplication.
	Degraded int64 `json:"degraded"`
	// Behind are the calls of an open loop that were due and were not made in time. They count among
	// the latencies with what they had waited.
	Behind int64 `json:"behind"`
	// Ack is how long calls took that were answered: from when they were due.
	Ack Latencies `json:"ack"`
	// Delivery is what this program's receiver saw; absent if it had none.
	Delivery *Delivery `json:"delivery,omitempty"`
}

// Delivery is what arrived.
type Delivery struct {
	// Delivered events were answered with a 2xx, once or more often.
	Delivered          int64   `json:"delivered"`
	DeliveredPerSecond float64 `json:"delivered_per_second"` // until the last one
	// Duplicates are the further requests for them.
	Duplicates int64 `json:"duplicates"`
	// Missing events were accepted and had not arrived in the end.
	Missing int64 `json:"missing"`
	// Lag is from the receipt to the first arrival: 0 for an event that was there before its receipt.
	Lag Latencies `json:"ack_to_arrival"`
	// Unmeasured events arrived so late that the time of their receipt was forgotten.
	Unmeasured int64 `json:"unmeasured"`
}

// Result is what the run came to so far; received says whether a receiver was there.
func (r *Run) Result(received bool) *Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	accepted, arrived, both := r.ledger.counts()
	out := &Result{
		Method: r.load.Method, Producers: r.load.Producers, Rate: r.load.Rate, DataBytes: len(r.data), Seconds: r.took.Seconds(),
		Accepted: accepted, AcceptedPerSecond: perSecond(accepted, r.took.Seconds()), Refused: maps.Clone(r.refused),
		Broken:     maps.Clone(r.broken),
		Unanswered: r.unanswered, Degraded: r.degraded, Behind: r.behind, Ack: r.acks.latencies(),
	}
	if !received {
		return out
	}
	l := &r.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	out.Delivery = &Delivery{
		Delivered: arrived, Duplicates: l.duplicates, Missing: accepted - both, Lag: l.lag.latencies(), Unmeasured: l.forgotten,
		DeliveredPerSecond: perSecond(arrived, l.last.Sub(r.pace.began).Seconds()),
	}
	return out
}

func perSecond(n int64, seconds float64) float64 {
	if n == 0 || seconds <= 0 {
		return 0
	}
	return float64(n) / seconds
}
