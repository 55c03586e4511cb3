package verify

import (
	"time"
)

// Take is take, for tests.
func Take(w *Window, unique string, at, now time.Time, tolerance time.Duration) error {
	return w.take(unique, at, now, tolerance)
}
