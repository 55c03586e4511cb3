package evidence

// remembered is how many ids a set of recent ones holds at least, once it has forgotten any; at most
// twice as many. A message whose acknowledgement was lost comes again within an acknowledgement's
// wait, in which one shard settles fewer.
const remembered = 1 << 16

// recent is a set of ids that forgets the oldest. The zero value is empty.
type recent struct {
	newer, older map[string]struct{}
}

func (r *recent) add(id string) {
	if r.newer == nil || len(r.newer) >= remembered {
		r.older, r.newer = r.newer, map[string]struct{}{}
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
