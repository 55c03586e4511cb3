// Package lag measures by how much a process runs behind. It keeps nothing, and may lose all of it.
package lag

import (
	"sync"
	"sync/atomic"
	"time"
)

// every is how often the lag is measured.
const every = 20 * time.Millisecond

// Meter measures by how much this process runs behind: by how much a timer is late. When it
// does, because the machine has too little for it, everything that it waits for looks slow.
// Its zero value has not started.
type Meter struct {
	peak  atomic.Int64 // the last peak, fading within a second; nanoseconds
	due   atomic.Int64 // when the timer is due, since the start; nanoseconds
	began time.Time
	ended chan struct{}
	wg    sync.WaitGroup
}

// Start begins to measure, until Stop.
func (m *Meter) Start() {
	m.began, m.ended = time.Now(), make(chan struct{})
	m.due.Store(int64(every))
	m.wg.Go(m.run)
}

func (m *Meter) run() {
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-m.ended:
			return
		}
		now := int64(time.Since(m.began))
		peak := m.peak.Load()
		m.peak.Store(max(now-m.due.Load(), peak-peak/16))
		m.due.Store(now + int64(every))
		timer.Reset(every)
	}
}

// Behind is by how much the process runs behind: the peak of the last moments, which fades within
// a second; 0 before Start. It counts a timer that is late and has not fired yet: whoever asks may
// be the first to run after a stall.
func (m *Meter) Behind() time.Duration {
	if m.began.IsZero() {
		return 0
	}
	return time.Duration(max(m.peak.Load(), int64(time.Since(m.began))-m.due.Load(), 0))
}

// Stop ends what Start began, and waits for it. It may be called again, or without Start.
func (m *Meter) Stop() {
	if m.ended != nil {
		close(m.ended)
		m.wg.Wait()
		m.ended = nil
	}
}
