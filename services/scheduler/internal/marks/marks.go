// Package marks is what the scheduler knows of cancelled deliveries: their marks in the
// configuration. It is a mirror, and losing it costs loading it again. A mark that comes late here
// costs only promptness: the dispatcher looks at marks before each attempt.
package marks

import (
	"sync"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Marks is safe for concurrent use. The zero value is not ready; use New.
type Marks struct {
	mu  sync.RWMutex
	set map[string]struct{}
}

// New returns an empty set.
func New() *Marks { return &Marks{set: make(map[string]struct{})} }

// Put takes a mark as the configuration has it.
func (m *Marks) Put(_, delivery string, _ uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set[delivery] = struct{}{}
}

// Remove drops a mark that has ended.
func (m *Marks) Remove(_, delivery string, _ uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.set, delivery)
}

// Covers reports whether a delivery is cancelled, by its own mark or by its event's: that ends what
// routing made of the event, and not what was replayed or redriven since.
func (m *Marks) Covers(d *recordv1.Delivery) bool {
	return m.Has(d.GetId()) || d.GetReplayId() == "" && d.GetProgress().GetSeries() == 0 && m.Has(d.GetEventId())
}

// Has reports whether a delivery is marked itself.
func (m *Marks) Has(delivery string) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	_, ok := m.set[delivery]
	return ok
}
