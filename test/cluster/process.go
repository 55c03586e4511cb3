package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// readyTimeout bounds how long a process may take to become ready.
const readyTimeout = 60 * time.Second

// Process is one process of the cluster. It can be killed and started again; its ports, its data
// and its log stay.
type Process struct {
	Name    string // "ingest-1"
	Service string // "ingest"
	Path    string
	Args    []string
	Env     []string

	port  int
	log   string
	ready func(ctx context.Context) error

	mu     sync.Mutex
	cmd    *exec.Cmd
	ended  chan struct{}
	result error
}

// Start starts the process; it may not be ready yet.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()     // the child has its own
	cmd := exec.Command(p.Path, p.Args...) //nolint:noctx // our own binaries, whose life is not a context's
	cmd.Env, cmd.Stdout, cmd.Stderr = p.Env, out, out
	cmd.SysProcAttr = childAttr()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	p.cmd, p.ended = cmd, make(chan struct{})
	ended := p.ended
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		p.result = err
		p.mu.Unlock()
		close(ended)
	}()
	return nil
}

// Running reports whether the process was started and has not ended.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// PID is the id of the process that runs now or ran last.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// WaitReady waits until the process says that it is ready, and fails with the end of its log if
// it ends before.
func (p *Process) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := p.ready(ctx)
		if err == nil && p.Running() { // or it was another that answered at its port
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended before it was ready: %w\n%s", p.Name, p.result, p.Tail(20))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", p.Name, err, p.Tail(20))
		case <-ticker.C:
		}
	}
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// Terminate asks the process to stop.
func (p *Process) Terminate() { p.signal(syscall.SIGTERM) }

// Wait waits until the process has ended and returns nil if its exit code was 0.
func (p *Process) Wait(ctx context.Context) error {
	p.mu.Lock()
	ended := p.ended
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	select {
	case <-ended:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.result
	case <-ctx.Done():
		return fmt.Errorf("%s has not ended: %w", p.Name, ctx.Err())
	}
}

// Pause stops the process without ending it; Continue lets it go on.
func (p *Process) Pause() { p.signal(syscall.SIGSTOP) }

// Continue lets a paused process go on.
func (p *Process) Continue() { p.signal(syscall.SIGCONT) }

func (p *Process) signal(sig syscall.Signal) {
	if p.Running() {
		_ = p.cmd.Process.Signal(sig) // it may have ended meanwhile, which is what was wanted
	}
}

func (p *Process) waitOrKill(grace time.Duration) error {
	if p.ended == nil {
		return nil
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(max(grace, time.Second)):
		p.Kill()
		return errors.New(p.Name + " did not stop when asked and was killed")
	}
}

// LogFile is where the process writes its log.
func (p *Process) LogFile() string { return p.log }

// Tail is the last n lines of the log.
func (p *Process) Tail(n int) string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func httpReady(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
			return fmt.Errorf("status %d: %s", resp.StatusCode, body)
		}
		return nil
	}
}

func redisReady(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
			return err
		}
		answer := make([]byte, 7)
		if _, err := io.ReadFull(conn, answer); err != nil {
			return err
		}
		if string(answer) != "+PONG\r\n" {
			return fmt.Errorf("redis answered %q", answer)
		}
		return nil
	}
}
