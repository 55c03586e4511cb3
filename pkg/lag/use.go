package lag

import "time"

// Use is what this process has had of the machine since it began.
type Use struct {
	// At is when it was read.
	At time.Time
	// CPU is the processor time of all its threads; 0 where the system does not say.
	CPU time.Duration
	// Waited is for how long threads of it that could have run waited for a processor, added up; 0
	// where the system does not say. It counts threads that live, so that it may go back.
	Waited time.Duration
}
