package sandbox

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// childName is what a program that runs itself as a child is called.
const childName = "postrider-sandbox"

// Child becomes the program of a sandbox, if this process was started to be one, and does not
// return then. It returns at once in every other process.
func Child() {
	if len(os.Args) != 1 || os.Args[0] != childName {
		return
	}
	runtime.LockOSThread() // who the program is, is a property of the thread that becomes it
	if err := enter(); err != nil {
		fmt.Fprintln(os.Stderr, "sandbox:", err)
	}
	os.Exit(125) //nolint:forbidigo // what is left of a child that could not become its program
}

func enter() error {
	pipe := os.NewFile(3, "config")
	var cfg Config
	if err := json.NewDecoder(pipe).Decode(&cfg); err != nil {
		return fmt.Errorf("read what to be: %w", err)
	}
	_ = pipe.Close()
	if err := unix.Sethostname([]byte(cfg.Name)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	if err := root(cfg); err != nil {
		return fmt.Errorf("build the root: %w", err)
	}
	if err := become(cfg); err != nil {
		return fmt.Errorf("become the user: %w", err)
	}
	return fmt.Errorf("run %s: %w", cfg.Path, unix.Exec(cfg.Path, append([]string{cfg.Path}, cfg.Args...), cfg.Env))
}

// root makes a root in memory, with the mounts, and moves to it.
func root(cfg Config) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	const dir = "/mnt" // empty by convention, and covered for this process alone
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=16m"); err != nil {
		return err
	}
	if err := files(dir, cfg); err != nil {
		return err
	}
	for _, m := range cfg.Mounts {
		if err := bind(m.Source, filepath.Join(dir, m.Target), m.ReadOnly); err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
	}
	for _, device := range []string{"null", "zero", "random", "urandom"} {
		if err := bind("/dev/"+device, filepath.Join(dir, "dev", device), false); err != nil {
			return err
		}
	}
	if err := pivot(dir); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	if !cfg.ReadOnlyRoot {
		return nil
	}
	return unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, "")
}

// files are those that a container's runtime adds.
func files(dir string, cfg Config) error {
	list := map[string]string{
		"etc/hostname":    cfg.Name + "\n",
		"etc/hosts":       "127.0.0.1\tlocalhost\n::1\tlocalhost\n" + cfg.Address.String() + "\t" + cfg.Name + "\n",
		"etc/resolv.conf": cmp.Or(cfg.Resolver, resolver),
	}
	if cfg.Memory > 0 {
		list["sys/fs/cgroup/memory.max"] = strconv.FormatInt(cfg.Memory, 10) + "\n"
	}
	for name, text := range list {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			return err
		}
	}
	return os.MkdirAll(filepath.Join(dir, "proc"), 0o555)
}

// bind shows a file or a folder at another place.
func bind(source, target string, readOnly bool) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else {
		err = errors.Join(os.MkdirAll(filepath.Dir(target), 0o755), os.WriteFile(target, nil, 0o644))
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if !readOnly {
		return nil
	}
	return unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
}

// pivot makes the folder the root and forgets the old one.
func pivot(dir string) error {
	old := filepath.Join(dir, "old")
	if err := os.Mkdir(old, 0o700); err != nil {
		return err
	}
	if err := unix.PivotRoot(dir, old); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Unmount("/old", unix.MNT_DETACH); err != nil {
		return err
	}
	return os.Remove("/old")
}

// become changes from root to the user, for good.
func become(cfg Config) error {
	if cfg.DropCapabilities {
		last, err := lastCapability()
		if err != nil {
			return err
		}
		for capability := range last + 1 {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(capability), 0, 0, 0); err != nil {
				return err
			}
		}
	}
	if cfg.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	// The groups first: the user may not change them any more.
	return errors.Join(unix.Setgroups(cfg.Groups), unix.Setresgid(cfg.GID, cfg.GID, cfg.GID), unix.Setresuid(cfg.UID, cfg.UID, cfg.UID))
}

func lastCapability() (int, error) {
	text, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
