package pod

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/postrider/postrider/test/kube/sandbox"
)

// Verify asks the kernel whether the process runs as the manifest says: user, groups, capabilities,
// privileges, environment, a root that refuses writes, and no token.
func (p *Pod) Verify() error {
	c, sec := p.service(), p.Template.Spec.SecurityContext
	errs := []error{p.process.Verify(&sandbox.Config{
		UID: sec.RunAsUser, GID: sec.RunAsGroup, Groups: []int{sec.FSGroup}, Env: p.process.Config.Env,
		Mounts: p.process.Config.Mounts, ReadOnlyRoot: c.SecurityContext.ReadOnlyRootFilesystem,
		NoNewPrivileges: no(c.SecurityContext.AllowPrivilegeEscalation), DropCapabilities: len(c.SecurityContext.Capabilities.Drop) > 0,
	})}
	if _, err := os.Stat(filepath.Join(p.process.Root(), "var/run/secrets/kubernetes.io")); !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, errors.New("it has a token"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("pod %s: %w", p.Name, err)
	}
	return nil
}
