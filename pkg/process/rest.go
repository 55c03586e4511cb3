package process

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// What a burst of work leaves behind is given back when it is over. The runtime would keep room for the heap that a
// collection may let grow, which is several times what is live, until minutes later.
const (
	// restEvery is how often is looked whether the process rests.
	restEvery = 5 * time.Second
	// restBelow is how much is allocated in that time at most by a process that rests, in bytes.
	restBelow = 4 << 20
	// restAfter is for how many looks in a row it must rest.
	restAfter = 2
)

// RestMemory gives memory back to the system whenever the process has come to rest, until ctx ends; not if GOGC in
// the environment says how much room the heap has. It costs one collection after each burst.
func RestMemory(ctx context.Context, lookup func(string) (string, bool)) {
	if _, set := lookup("GOGC"); set {
		return
	}
	go func() {
		ticker := time.NewTicker(restEvery)
		defer ticker.Stop()
		var r rest
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if r.over(allocated()) {
				debug.FreeOSMemory()
			}
		}
	}()
}

// allocated is how much was ever allocated, in bytes.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// rest is what is known of a process at rest.
type rest struct {
	allocated uint64
	quiet     int // looks in a row
}

// over says whether a burst has just ended, given what was allocated until now. What comes before the first look is
// one.
func (r *rest) over(allocated uint64) bool {
	grown := allocated - r.allocated
	r.allocated = allocated
	if grown > restBelow {
		r.quiet = 0
		return false
	}
	if r.quiet <= restAfter {
		r.quiet++
	}
	return r.quiet == restAfter
}
