package cluster

import "syscall"

// childAttr gives a child a process group of its own, so that a Ctrl-C at the terminal reaches the
// cluster first, which then stops its children in order.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
