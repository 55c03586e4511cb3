package image_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// inside is the image's program with the image as its root, as the image's user. Who is not root
// runs it where it lies.
func inside(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	if os.Getuid() != 0 {
		return exec.CommandContext(t.Context(), filepath.Join(dir, "service"), "--help")
	}
	// The root is changed in the child, so the path is looked for there; Go looks here before.
	cmd := &exec.Cmd{Path: "/service", Args: []string{"/service", "--help"}, Dir: "/"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: dir, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	return cmd
}
