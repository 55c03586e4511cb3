package lag

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"
)

// Used reads what this process has had. It opens a file for each thread: some hundred microseconds.
func Used() Use {
	u := Use{At: time.Now()}
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) == nil {
		u.CPU = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	const threads = "/proc/self/task"
	dir, err := os.Open(threads)
	if err != nil {
		return u
	}
	names, _ := dir.Readdirnames(-1) // what was read counts
	_ = dir.Close()
	for _, name := range names {
		text, err := os.ReadFile(threads + "/" + name + "/schedstat") //nolint:gosec // names that the kernel gave
		if err != nil {
			continue // the thread has ended, or the kernel does not count
		}
		u.Waited += waitedIn(text)
	}
	return u
}

// waitedIn reads a thread's schedstat: nanoseconds on a processor, nanoseconds of waiting for one, and
// how often it ran.
func waitedIn(text []byte) time.Duration {
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0
	}
	n, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(n)
}
