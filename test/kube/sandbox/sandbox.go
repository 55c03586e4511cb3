// Package sandbox runs a program as a container would, without a container engine: in namespaces of
// its own for processes, mounts, network, host name and IPC, with an address of its own on a bridge,
// a root that holds what is listed and nothing else, as a user by number, without capabilities. It
// needs Linux and root; what is run needs neither.
package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Config says what to run and in what surroundings.
type Config struct {
	Name    string // of the host
	Address netip.Addr
	Path    string // in the new root
	Args    []string
	Env     []string
	UID     int
	GID     int
	Groups  []int
	// Mounts are what the root holds, beside /proc, /dev and what the runtime of containers adds:
	// /etc/hosts, /etc/hostname and /etc/resolv.conf.
	Mounts []Mount
	// ReadOnlyRoot refuses writes outside of mounts that take them.
	ReadOnlyRoot bool
	// NoNewPrivileges refuses what a set-user-id program would give.
	NoNewPrivileges bool
	// DropCapabilities takes away the bounding set, so that not even root has any.
	DropCapabilities bool
	// Memory is the limit in bytes that the process reads of its control group; 0 is none.
	Memory int64
	// Resolver is /etc/resolv.conf; empty is that of a pod.
	Resolver string
	// Log is the file that the output is appended to.
	Log string
}

// Mount is a file or a folder of this machine in the new root.
type Mount struct {
	Source   string
	Target   string
	ReadOnly bool
}

// Process is one run.
type Process struct {
	Config Config

	cmd   *exec.Cmd
	ended chan struct{}

	mu     sync.Mutex
	result error
}

// Machine is what a program of this machine needs of it.
func Machine() []Mount {
	var out []Mount
	for _, path := range []string{"/usr", "/bin", "/lib", "/lib64", "/etc/alternatives", "/etc/ld.so.cache"} {
		if _, err := os.Stat(path); err == nil {
			out = append(out, Mount{Source: path, Target: path, ReadOnly: true})
		}
	}
	return out
}

// Start runs a program. Its address answers when it listens.
func (n *Network) Start(cfg Config) (*Process, error) {
	out, err := os.OpenFile(cfg.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = write.Close() }()
	cmd := exec.Command("/proc/self/exe") //nolint:noctx // its life is not a context's
	cmd.Args = []string{childName}
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, out, []*os.File{read}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	err = cmd.Start()
	_ = read.Close()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cfg.Name, err)
	}
	p := &Process{Config: cfg, cmd: cmd, ended: make(chan struct{})}
	go p.wait()
	// The program starts when it is told what it is, by when it has its network.
	err = n.connect(cmd.Process.Pid, cfg.Address)
	if err == nil {
		err = json.NewEncoder(write).Encode(cfg)
	}
	if err != nil {
		p.Signal(syscall.SIGKILL)
		<-p.ended
		return nil, fmt.Errorf("start %s: %w", cfg.Name, err)
	}
	return p, nil
}

func (p *Process) wait() {
	err := p.cmd.Wait()
	p.mu.Lock()
	p.result = err
	p.mu.Unlock()
	close(p.ended)
}

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Result is how it ended: nil for exit code 0.
func (p *Process) Result() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.result
}

// Signal sends a signal; to one that has ended it does nothing.
func (p *Process) Signal(sig syscall.Signal) {
	_ = p.cmd.Process.Signal(sig) // it may have ended meanwhile
}

// Kill ends the process and everything that it started, and waits for it.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.ended
}

// PID is the process as this machine knows it.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Root is the process's root, seen from here.
func (p *Process) Root() string { return filepath.Join("/proc", strconv.Itoa(p.PID()), "root") }

// Tail is the last n lines of the output.
func (p *Process) Tail(n int) string {
	data, err := os.ReadFile(p.Config.Log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Status is a line of what the kernel knows of the process: Uid, CapBnd, NoNewPrivs, VmHWM.
func (p *Process) Status(name string) (string, error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID()), "status"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.Join(strings.Fields(value), " "), nil
		}
	}
	return "", fmt.Errorf("the kernel says no %s of %s", name, p.Config.Name)
}

// Environ is the environment that the process was started with.
func (p *Process) Environ() ([]string, error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID()), "environ"))
	return strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00"), err
}

// Stop asks the process to end, and kills it after the grace.
func (p *Process) Stop(grace time.Duration) error {
	p.Signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.ended:
		return p.Result()
	case <-timer.C:
		p.Kill()
		return errors.New(p.Config.Name + " did not stop when asked and was killed")
	}
}
