package sandbox

import (
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// within works on the network of another process.
func within(pid int, work func(*netlink.Handle) error) error {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	return work(h)
}
