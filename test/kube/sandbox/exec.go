package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"syscall"
)

// Exec runs a program beside the process: in its namespaces, with its root, environment and user. The
// error has what it printed.
func (p *Process) Exec(ctx context.Context, name string, args ...string) error {
	enter, err := exec.LookPath("nsenter")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, enter, append([]string{
		"--target", strconv.Itoa(p.PID()), "--mount", "--net", "--pid", "--uts", "--ipc",
		"--setgid", strconv.Itoa(p.Config.GID), "--setuid", strconv.Itoa(p.Config.UID), "--", name,
	}, args...)...)
	cmd.Env = p.Config.Env
	// It makes a child in the other namespace, which does not end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}
