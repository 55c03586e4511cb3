package pipeline

import (
	"sync"
	"sync/atomic"
	"time"
)

// lagEvery is how often the lag is measured.
const lagEvery = 20 * time.Millisecond

// lagMeter measures by how much this process runs behind: by how much a timer is late. When it
// does, because the machine has too little for it, every receiver looks slow.
type lagMeter struct {
	peak  atomic.Int64 // the last peak, fading within a second; nanoseconds
	due   atomic.Int64 // when the timer is due, since the start; nanoseconds
	began time.Time
	ended chan struct{}
	wg    sync.WaitGroup
}

func (m *lagMeter) start() {
	m.began, m.ended = time.Now(), make(chan struct{})
	m.due.Store(int64(lagEvery))
	m.wg.Go(m.run)
}

func (m *lagMeter) run() {
	timer := time.NewTimer(lagEvery)
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
		m.due.Store(now + int64(lagEvery))
		timer.Reset(lagEvery)
	}
}

// behind is by how much the process runs behind. It counts a timer that is late and has not fired
// yet: whoever asks may be the first to run after a stall.
func (m *lagMeter) behind() time.Duration {
	if m.began.IsZero() {
		return 0
	}
	return time.Duration(max(m.peak.Load(), int64(time.Since(m.began))-m.due.Load(), 0))
}

func (m *lagMeter) stop() {
	if m.ended != nil {
		close(m.ended)
		m.wg.Wait()
		m.ended = nil
	}
}
