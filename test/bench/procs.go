package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/pkg/process"
)

// tick is the unit of the times in /proc/<pid>/stat: USER_HZ, which Linux fixes at 100.
const tick = time.Second / 100

// The names of our own two processes in tables; the others have their services' names.
const (
	loadName     = "load"
	receiverName = "receiver"
)

// processes are those that a configuration runs, by name.
type processes map[string]int

// cpu is what each process has used, user and system.
func (p processes) cpu() (map[string]time.Duration, error) {
	used := make(map[string]time.Duration, len(p))
	for name, pid := range p {
		d, err := cpuOf(pid)
		if err != nil {
			return nil, fmt.Errorf("read the CPU time of %s: %w", name, err)
		}
		used[name] = d
	}
	return used, nil
}

// cpuOf reads utime and stime of a process: all of its threads, those that ended too.
func cpuOf(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStat(data)
}

// parseStat adds the fields 14 and 15; field 2, the name, may hold blanks and parentheses.
func parseStat(data []byte) (time.Duration, error) {
	end := bytes.LastIndexByte(data, ')')
	fields := strings.Fields(string(data[end+1:]))
	if end < 0 || len(fields) < 13 {
		return 0, errors.New("stat is malformed")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// memory is the resident memory of each process, in bytes.
func (p processes) memory() (map[string]int64, error) {
	resident := make(map[string]int64, len(p))
	for name, pid := range p {
		n, err := residentOf(pid)
		if err != nil {
			return nil, fmt.Errorf("read the memory of %s: %w", name, err)
		}
		resident[name] = n
	}
	return resident, nil
}

// residentOf reads how much memory of a process is resident: field 2 of its statm, in pages.
func residentOf(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0, errors.New("statm is malformed")
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// spent subtracts two readings.
func spent(before, after map[string]time.Duration) map[string]time.Duration {
	diff := make(map[string]time.Duration, len(after))
	for name, d := range after {
		diff[name] = d - before[name]
	}
	return diff
}

func total(used map[string]time.Duration) (sum time.Duration) {
	for d := range maps.Values(used) {
		sum += d
	}
	return sum
}

// Times of awaitQuiet.
const (
	quietStep  = 250 * time.Millisecond
	quietShare = 0.06 // of one core: what idle services and servers take together
	quietLimit = 60 * time.Second
)

// awaitQuiet waits until the processes have nothing left to do, so that what they put off (the
// log of deliveries, acknowledgements) is counted with the run that caused it.
func (p processes) awaitQuiet(ctx context.Context) (map[string]time.Duration, error) {
	last, err := p.cpu()
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(quietStep)
	defer ticker.Stop()
	deadline := time.Now().Add(quietLimit)
	for since := time.Now(); ; {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ticker.C:
		}
		used, err := p.cpu()
		if err != nil {
			return nil, err
		}
		now := time.Now()
		share := float64(total(spent(last, used))) / float64(now.Sub(since))
		if share < quietShare {
			return used, nil
		}
		if now.After(deadline) {
			return nil, fmt.Errorf("the processes are still busy %s after the last arrival (%.0f %% of a core)", quietLimit, 100*share)
		}
		last, since = used, now
	}
}

// tune sets our own two processes as the services set themselves. The plain loop runs in them, so it
// gains from it too.
func tune() { process.TuneMemory(os.LookupEnv) }

// gcPercent is what tune came to.
func gcPercent() int {
	percent := debug.SetGCPercent(100)
	debug.SetGCPercent(percent)
	return percent
}

// Machine is where the numbers come from.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory string `json:"memory"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	NATS   string `json:"nats_server"`
	Redis  string `json:"redis_server"`
	Commit string `json:"commit"`
}

func machine(ctx context.Context, bin string) Machine {
	m := Machine{
		CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Memory: "unknown",
		Kernel: oneLine(os.ReadFile("/proc/sys/kernel/osrelease")), Go: runtime.Version(),
		NATS:   oneLine(exec.CommandContext(ctx, bin+"/nats-server", "--version").Output()),
		Redis:  oneLine(exec.CommandContext(ctx, "redis-server", "--version").Output()),
		Commit: oneLine(exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()),
	}
	if kb, err := strconv.ParseFloat(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 64); err == nil {
		m.Memory = fmt.Sprintf("%.1f GiB", kb/(1<<20))
	}
	m.NATS = strings.TrimPrefix(m.NATS, "nats-server: ")
	if words := strings.Fields(m.Redis); len(words) > 2 {
		m.Redis = strings.TrimPrefix(words[2], "v=")
	}
	return m
}

func oneLine(data []byte, err error) string {
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(data)), "\n")
	return line
}

// field reads "name : value" from a file of the kernel.
func field(path, name string) string {
	file, err := os.Open(path)
	if err != nil {
		return "unknown"
	}
	defer func() { _ = file.Close() }()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		key, value, ok := strings.Cut(lines.Text(), ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// sortedNames lists processes in the order of an event's way, others after them.
func sortedNames[V any](byName map[string]V) []string {
	order := []string{loadName, "postrider", "ingest", "router", "dispatcher", receiverName, "scheduler", "api", "nats", "redis"}
	return slices.SortedFunc(maps.Keys(byName), func(a, b string) int {
		return (slices.Index(order, a)+len(order))%len(order) - (slices.Index(order, b)+len(order))%len(order)
	})
}
