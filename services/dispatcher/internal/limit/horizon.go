package limit

import "time"

// maxSpread is how far behind the first of them parked deliveries are put.
const maxSpread = 10 * time.Minute

// Horizon gives deliveries that are parked their places in time, one behind the other. Without the
// spread, they would all come back at once, and all but a few would have to be parked again. Its
// owner guards it against concurrent use.
type Horizon struct{ next time.Time }

// Place is where the next one is put: not before from, and spacing behind the one before it.
// Random is in [0, 1).
func (h *Horizon) Place(from time.Time, spacing time.Duration, random float64) time.Time {
	spacing = min(spacing, maxSpread)
	if h.next.Before(from) || h.next.After(from.Add(maxSpread)) {
		h.next = from
	}
	until := h.next.Add(time.Duration(random * float64(spacing)))
	h.next = h.next.Add(spacing)
	return until
}
