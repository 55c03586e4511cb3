package pod

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Verify asks the kernel whether the process runs as the manifest says: user, groups, capabilities,
// privileges, environment, a root that refuses writes, and no token.
func (p *Pod) Verify() error {
	c, sec := p.service(), p.Template.Spec.SecurityContext
	four := func(id int) string { return strings.TrimSpace(strings.Repeat(strconv.Itoa(id)+" ", 4)) }
	wants := map[string]string{"Uid": four(sec.RunAsUser), "Gid": four(sec.RunAsGroup), "Groups": strconv.Itoa(sec.FSGroup), "CapEff": "0000000000000000"}
	if no(c.SecurityContext.AllowPrivilegeEscalation) {
		wants["NoNewPrivs"] = "1"
	}
	if len(c.SecurityContext.Capabilities.Drop) > 0 {
		wants["CapBnd"] = "0000000000000000"
	}
	var errs []error
	for name, want := range wants {
		got, err := p.process.Status(name)
		if got != want {
			errs = append(errs, err, fmt.Errorf("%s is %q, not %q", name, got, want))
		}
	}
	environ, err := p.process.Environ()
	slices.Sort(environ)
	want := slices.Sorted(slices.Values(p.process.Config.Env))
	if !slices.Equal(environ, want) {
		errs = append(errs, err, fmt.Errorf("its environment is %v, not %v", environ, want))
	}
	if c.SecurityContext.ReadOnlyRootFilesystem {
		// Asked as root, whom no permission stops: what refuses is the mount.
		for _, dir := range append([]string{"/", "/etc"}, mountPaths(p)...) {
			err := os.WriteFile(filepath.Join(p.process.Root(), dir, "written"), nil, 0o600)
			if !errors.Is(err, syscall.EROFS) {
				errs = append(errs, err, fmt.Errorf("a write to %s is not refused by the mount", dir))
			}
		}
	}
	if _, err := os.Stat(filepath.Join(p.process.Root(), "var/run/secrets/kubernetes.io")); !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, errors.New("it has a token"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("pod %s: %w", p.Name, err)
	}
	return nil
}

// mountPaths are the volumes that the pod may only read.
func mountPaths(p *Pod) []string {
	var out []string
	for _, m := range p.service().VolumeMounts {
		if m.ReadOnly {
			out = append(out, m.MountPath)
		}
	}
	return out
}
