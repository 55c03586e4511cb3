package process

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// gcPercent is how much the heap may grow between two collections, in percent of what is live. Our
// processes keep little and allocate much for each message: with Go's own 100 they collect several
// times as often, which took a seventh of all CPU time under load.
const gcPercent = 400

// memoryShare is how much of the container's limit Go may use before it collects as often as it
// takes to stay below: what is left is for what Go does not count.
const memoryShare = 0.9

// unlimited is more than any machine has; cgroup v1 says a number like it when there is no limit.
const unlimited = 1 << 60

// TuneMemory sets how often the heap is collected, unless GOGC and GOMEMLIMIT in the environment
// say it. Where the process has a limit of memory, the larger heap stays within it.
func TuneMemory(lookup func(string) (string, bool)) {
	if _, set := lookup("GOGC"); !set {
		debug.SetGCPercent(gcPercent)
	}
	if _, set := lookup("GOMEMLIMIT"); set {
		return
	}
	if limit := containerLimit(os.ReadFile); limit > 0 {
		debug.SetMemoryLimit(int64(memoryShare * float64(limit)))
	}
}

// containerLimit is the memory that the process's control group may use, 0 if there is no limit.
func containerLimit(read func(string) ([]byte, error)) int64 {
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		data, err := read(path)
		if err != nil {
			continue
		}
		limit, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		if err != nil || limit <= 0 || limit >= unlimited {
			continue // "max" among others
		}
		return limit
	}
	return 0
}
