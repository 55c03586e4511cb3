package deliverystream

import "time"

const (
	// gap is the time between an account's messages that are not full, and burst how many of them may follow one
	// another at once after a pause: two that come together by chance are no load.
	gap   = 4 * time.Millisecond
	burst = 4
	// leastSweep is how many accounts are remembered at least before it is looked which of them are quiet.
	leastSweep = 1024
)

// rates says when each account may send its next message: what it sends costs a gap, and it may be burst gaps ahead.
// It never has to wait for more than one.
type rates struct {
	paid  map[string]time.Time // by account: when it has paid for all that it sent; one that has is forgotten
	sweep int                  // how many there may be before those are looked for
}

func newRates() rates { return rates{paid: map[string]time.Time{}, sweep: leastSweep} }

// due is when the account may send.
func (r *rates) due(account string) time.Time { return r.paid[account].Add((1 - burst) * gap) }

// sent notes that it sends now. It may before it is due: a message that is full waits for nothing.
func (r *rates) sent(account string, now time.Time) {
	at := r.paid[account]
	if at.Before(now) {
		at = now
	}
	at = at.Add(gap)
	if most := now.Add(burst * gap); at.After(most) {
		at = most
	}
	r.paid[account] = at
	if len(r.paid) <= r.sweep {
		return
	}
	for account, at := range r.paid {
		if at.Before(now) {
			delete(r.paid, account)
		}
	}
	r.sweep = max(leastSweep, 2*len(r.paid))
}
