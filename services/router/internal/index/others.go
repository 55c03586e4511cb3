package index

import (
	"sync"

	"github.com/oklog/ulid/v2"
)

// othersMost bounds what is kept of an account, in bytes.
const othersMost = 8 << 10

// others are the webhooks of an account that want no events of a type: those that are told by their ids alone,
// and the rest.
type others struct {
	ids       []byte
	unmatched []Unmatched
}

func (o *others) len() int { return len(o.ids)/len(ulid.ULID{}) + len(o.unmatched) }

// typesOthers remembers them by event type. They are the same for each event until a webhook changes.
type typesOthers struct {
	mu     sync.RWMutex
	byType map[string]others
	bytes  int
}

func (t *typesOthers) get(eventType string) (o others, known bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	o, known = t.byType[eventType]
	return o, known
}

func (t *typesOthers) put(eventType string, o others) {
	const unmatchedBytes = 64 // of a row, beside what its webhook holds anyway
	size := len(eventType) + len(o.ids) + unmatchedBytes*(1+len(o.unmatched))
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byType == nil || t.bytes+size > othersMost {
		t.byType, t.bytes = make(map[string]others), 0
	}
	t.byType[eventType] = o
	t.bytes += size
}

func (t *typesOthers) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byType, t.bytes = nil, 0
}
