package sandbox

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The addresses of the network. Nothing of it leaves the namespace that Isolate makes.
var (
	// Gateway is this process, for those in sandboxes.
	Gateway = netip.MustParseAddr("10.1.0.1")
	// DNS is where names are asked for.
	DNS = netip.MustParseAddr("10.1.0.10")
)

// resolver is what the kubelet writes for a pod of the namespace postrider.
const resolver = `search postrider.svc.cluster.local svc.cluster.local cluster.local
nameserver 10.1.0.10
options ndots:5
`

const (
	bridgeName = "sandboxes"
	prefix     = 16
	inside     = "POSTRIDER_SANDBOX_INSIDE"
)

// Isolate runs this process again in namespaces of its own, and returns its exit code when it has
// ended; in that one it sets up what every sandbox shares, and returns false. Whatever becomes of
// the process, the kernel ends with it all that it started and forgets its network.
func Isolate() (code int, done bool, err error) {
	if os.Getenv(inside) != "" {
		return 0, false, prepare()
	}
	if os.Geteuid() != 0 {
		return 1, true, errors.New("only root may run a process as a container does")
	}
	self, err := os.Executable()
	if err != nil {
		return 1, true, err
	}
	cmd := exec.Command(self, os.Args[1:]...) //nolint:noctx // it ends when it wants to
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	runtime.LockOSThread() // the child would die with the thread that started it
	defer runtime.UnlockOSThread()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	defer signal.Stop(stop)
	if err := cmd.Start(); err != nil {
		return 1, true, fmt.Errorf("make namespaces: %w", err)
	}
	go func() {
		for s := range stop {
			_ = cmd.Process.Signal(s) // it may have ended
		}
	}()
	err = cmd.Wait()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit.ExitCode(), true, nil
	}
	return 0, true, err
}

// prepare gives the namespace its own /proc and its own way to names.
func prepare() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	path := filepath.Join(os.TempDir(), "resolv.conf."+strconv.Itoa(os.Getpid()))
	if err := os.WriteFile(path, []byte(resolver), 0o600); err != nil {
		return err
	}
	defer func() { _ = os.Remove(path) }() // the mount keeps it
	target, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if err != nil {
		return err
	}
	return unix.Mount(path, target, "", unix.MS_BIND, "")
}

// Network is a bridge that sandboxes are plugged into.
type Network struct {
	bridge netlink.Link

	mu   sync.Mutex
	next int
}

// NewNetwork makes the bridge in the namespace of Isolate. Besides its own addresses this process
// has those that are given.
func NewNetwork(more ...netip.Addr) (*Network, error) {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, err
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return nil, err
	}
	// With an address of its own, or it would have that of whoever is plugged in, and change it while
	// others know it.
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName, HardwareAddr: hardware(Gateway)}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return nil, fmt.Errorf("make a bridge: %w", err)
	}
	for i, a := range append([]netip.Addr{Gateway, DNS}, more...) {
		bits := 32
		if i == 0 {
			bits = prefix
		}
		if err := netlink.AddrAdd(bridge, address(a, bits)); err != nil {
			return nil, fmt.Errorf("take the address %s: %w", a, err)
		}
	}
	return &Network{bridge: bridge}, netlink.LinkSetUp(bridge)
}

// Take gives this process one more address.
func (n *Network) Take(a netip.Addr) error { return netlink.AddrAdd(n.bridge, address(a, 32)) }

func address(a netip.Addr, bits int) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, 32)}}
}

// hardware is the one hardware address that an address has: who knew it before finds it when it is
// back.
func hardware(a netip.Addr) net.HardwareAddr { return append(net.HardwareAddr{2, 0}, a.AsSlice()...) }

// connect gives the network of a process one end of a cable, with an address and a way out.
func (n *Network) connect(pid int, addr netip.Addr) error {
	n.mu.Lock()
	n.next++
	near, far := fmt.Sprintf("near%d", n.next), fmt.Sprintf("far%d", n.next)
	n.mu.Unlock()
	cable := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: near, MasterIndex: n.bridge.Attrs().Index},
		PeerName:  far, PeerHardwareAddr: hardware(addr), PeerNamespace: netlink.NsPid(pid),
	}
	if err := netlink.LinkAdd(cable); err != nil {
		return fmt.Errorf("make a cable: %w", err)
	}
	if err := netlink.LinkSetUp(cable); err != nil {
		return err
	}
	return within(pid, func(h *netlink.Handle) error {
		loopback, err := h.LinkByName("lo")
		if err != nil {
			return err
		}
		link, err := h.LinkByName(far)
		if err != nil {
			return err
		}
		return errors.Join(
			h.LinkSetUp(loopback),
			h.AddrAdd(link, address(addr, prefix)),
			h.LinkSetUp(link),
			h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: Gateway.AsSlice()}),
		)
	})
}
