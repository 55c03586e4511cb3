package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Verify asks the kernel whether the process runs as it should: user, groups, capabilities,
// privileges, environment, and a root and mounts that refuse writes. Of want it reads those alone.
func (p *Process) Verify(want *Config) error {
	four := func(id int) string { return strings.TrimSpace(strings.Repeat(strconv.Itoa(id)+" ", 4)) }
	groups := make([]string, len(want.Groups))
	for i, g := range want.Groups {
		groups[i] = strconv.Itoa(g)
	}
	wants := map[string]string{"Uid": four(want.UID), "Gid": four(want.GID), "Groups": strings.Join(groups, " "), "CapEff": "0000000000000000"}
	if want.NoNewPrivileges {
		wants["NoNewPrivs"] = "1"
	}
	if want.DropCapabilities {
		wants["CapBnd"] = "0000000000000000"
	}
	var errs []error
	for name, value := range wants {
		got, err := p.Status(name)
		if got != value {
			errs = append(errs, err, fmt.Errorf("%s is %q, not %q", name, got, value))
		}
	}
	environ, err := p.Environ()
	slices.Sort(environ)
	if env := slices.Sorted(slices.Values(want.Env)); !slices.Equal(environ, env) {
		errs = append(errs, err, fmt.Errorf("its environment is %v, not %v", environ, env))
	}
	for _, dir := range readOnly(want) {
		// Asked as root, whom no permission stops: what refuses is the mount.
		err := os.WriteFile(filepath.Join(p.Root(), dir, "written"), nil, 0o600)
		if !errors.Is(err, syscall.EROFS) {
			errs = append(errs, err, fmt.Errorf("a write to %s is not refused by the mount", dir))
		}
	}
	return errors.Join(errs...)
}

// readOnly are the folders that nobody may write to.
func readOnly(c *Config) []string {
	if !c.ReadOnlyRoot {
		return nil
	}
	out := []string{"/", "/etc"}
	for _, m := range c.Mounts {
		if info, err := os.Stat(m.Source); m.ReadOnly && err == nil && info.IsDir() {
			out = append(out, m.Target)
		}
	}
	return out
}
