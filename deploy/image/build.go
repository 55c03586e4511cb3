package image

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Build compiles a service for every architecture into dir, as deploy/Dockerfile does, and returns
// what an image is made from. Root is the checkout.
func Build(ctx context.Context, root, dir string, s Spec) (Spec, error) {
	mains, err := filepath.Glob(filepath.Join(root, "services", "*", "cmd", s.Service))
	if err != nil || len(mains) != 1 {
		return s, fmt.Errorf("build %s: no service has a cmd/%s", s.Service, s.Service)
	}
	s.Binaries = map[string]string{}
	for _, arch := range Architectures() {
		out := filepath.Join(dir, arch, s.Service)
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", //nolint:gosec // our own arguments
			"-ldflags", "-s -w -X github.com/postrider/postrider/pkg/telemetry.version="+s.Version, "-o", out, mains[0])
		cmd.Dir = root
		// The module that this runs in is outside of the workspace, the services are in it.
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=-buildvcs=false",
			"GOWORK="+filepath.Join(root, "go.work"))
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return s, fmt.Errorf("build %s for %s: %w", s.Service, arch, err)
		}
		s.Binaries[arch] = out
	}
	return s, nil
}
