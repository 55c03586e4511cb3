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
	average atomic.Int64 // nanoseconds
	ended   chan struct{}
	wg      sync.WaitGroup
}

func (m *lagMeter) start() {
	m.ended = make(chan struct{})
	m.wg.Go(m.run)
}

func (m *lagMeter) run() {
	timer := time.NewTimer(lagEvery)
	defer timer.Stop()
	for began := time.Now(); ; began = time.Now() {
		select {
		case <-timer.C:
		case <-m.ended:
			return
		}
		late := int64(max(time.Since(began)-lagEvery, 0))
		average := m.average.Load()
		m.average.Store(average + (late-average)/8)
		timer.Reset(lagEvery)
	}
}

// behind is by how much the process runs behind, a moving average.
func (m *lagMeter) behind() time.Duration { return time.Duration(m.average.Load()) }

func (m *lagMeter) stop() {
	if m.ended != nil {
		close(m.ended)
		m.wg.Wait()
		m.ended = nil
	}
}
