package evidence

import "time"

// A set of recent ones forgets half of what it holds when it holds so many ids, but none of which it learned within
// the time, in which a message comes again whose acknowledgement was lost, or whose event a dead router's
// successor routes again, unless they are too many.
const (
	remembered   = 1 << 16
	rememberedOf = 20 * time.Second
	mostKept     = 1 << 18
)

// recent is a set of ids that forgets the oldest. The zero value is empty.
type recent struct {
	newer, older map[string]struct{}
	began        time.Time // of newer
}

func (r *recent) add(id string, now time.Time) {
	n := len(r.newer)
	if r.newer == nil || n >= mostKept || n >= remembered && now.Sub(r.began) >= rememberedOf {
		r.older, r.newer, r.began = r.newer, map[string]struct{}{}, now
	}
	r.newer[id] = struct{}{}
}

func (r *recent) has(id string) bool {
	if _, ok := r.newer[id]; ok {
		return true
	}
	_, ok := r.older[id]
	return ok
}
