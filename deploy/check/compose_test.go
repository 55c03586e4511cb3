package check_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
)

// load is what `docker compose config` does.
func load(ctx context.Context, text string) (*types.Project, error) {
	dir, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	return loader.LoadWithContext(ctx, types.ConfigDetails{
		WorkingDir:  dir,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "docker-compose.yml"), Content: []byte(text)}},
		Environment: types.Mapping{"POSTRIDER_KEY": "an-admin-key-of-a-test", "POSTRIDER_ENCRYPTION_KEY": "a-keyset"},
	}, func(o *loader.Options) {
		o.SetProjectName("postrider", true)
		o.Profiles = []string{"*"}
	})
}

// composeFaults are what the loader does not see.
func composeFaults(t *testing.T, text string) []string {
	t.Helper()
	p, err := load(t.Context(), text)
	if err != nil {
		return []string{err.Error()}
	}
	known := options(t)
	var out []string
	fault := func(s types.ServiceConfig, format string, args ...any) {
		out = append(out, s.Name+": "+fmt.Sprintf(format, args...))
	}
	published := map[int]string{}
	for _, s := range p.Services {
		if i := strings.LastIndex(s.Image, ":"); i < 0 || s.Image[i:] == ":latest" {
			fault(s, "image %s has no version", s.Image)
		}
		if s.Build != nil {
			if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
				fault(s, "%v", err)
			}
			service := *s.Build.Args["SERVICE"]
			if mains, _ := filepath.Glob(filepath.Join(root, "services/*/cmd", service)); len(mains) != 1 {
				fault(s, "there is no service %s", service)
			}
			for name := range s.Environment {
				if service != "postrider" && !slices.Contains(known[service], name) {
					fault(s, "%s is no option of %s", name, service)
				}
			}
		}
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeVolume && s.GetScale() > 1 {
				fault(s, "its %d replicas share the volume %s", s.GetScale(), v.Source)
			}
			if v.Type != types.VolumeTypeBind || strings.Contains(v.Source, "/deploy/prometheus") || strings.Contains(v.Source, "/deploy/grafana") {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				fault(s, "%v", err)
			}
		}
		for name, d := range s.DependsOn {
			other := p.Services[name]
			if d.Condition == types.ServiceConditionHealthy && other.HealthCheck == nil {
				fault(s, "waits for the health of %s, which has no check", name)
			}
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				fault(s, "publishes %s to others than this machine", port.Published)
			}
			first, last := portRange(t, port.Published)
			if n := last - first + 1; n != s.GetScale() {
				fault(s, "publishes %d ports for %d replicas", n, s.GetScale())
			}
			for p := first; p <= last; p++ {
				if other, taken := published[p]; taken {
					fault(s, "publishes %d, as %s does", p, other)
				}
				published[p] = s.Name
			}
		}
	}
	return out
}

// portRange reads 9090 and 9090-9091.
func portRange(t *testing.T, text string) (first, last int) {
	t.Helper()
	from, to, ranged := strings.Cut(text, "-")
	if !ranged {
		to = from
	}
	first, err := strconv.Atoi(from)
	require.NoError(t, err)
	last, err = strconv.Atoi(to)
	require.NoError(t, err)
	return first, last
}

func TestCompose(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile(root + "docker-compose.yml")
	require.NoError(t, err)
	text := string(file)
	require.Empty(t, composeFaults(t, text))
	for name, plant := range map[string]struct{ from, to, want string }{
		"a misspelt key":              {"depends_on: *stores", "depend_on: *stores", "depend_on"},
		"no version":                  {"redis:8.4-alpine", "redis", "has no version"},
		"a Dockerfile that is gone":   {"deploy/Dockerfile", "deploy/Dokerfile", "no such file"},
		"a file that is gone":         {"./deploy/compose/nats.conf", "./deploy/compose/gnats.conf", "no such file"},
		"a service that is not there": {"args: {SERVICE: router}", "args: {SERVICE: rooter}", "there is no service"},
		"an option that is not there": {"POSTRIDER_API_LOG_URL:", "POSTRIDER_API_LOG_URLS:", "is no option"},
		"a wait for nobody":           {"redis: {condition: service_healthy}", "reddis: {condition: service_healthy}", "reddis"},
		"health that nobody checks":   {"redis: {condition: service_healthy}", "otel-collector: {condition: service_healthy}", "which has no check"},
		"one port twice":              {"127.0.0.1:9095:9090", "127.0.0.1:9091:9090", "publishes 9091"},
		"two replicas at one port":    {"127.0.0.1:9090-9091:9090", "127.0.0.1:9090:9090", "publishes 1 ports for 2 replicas"},
		"replicas with one file":      {"depends_on: {<<: *stores, postgres", "volumes: [\"postgres:/log\"]\n    depends_on: {<<: *stores, postgres", "replicas share"},
		"a port for everybody":        {"127.0.0.1:3000:3000", "3000:3000", "others than this machine"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, text, plant.from)
			require.Contains(t, strings.Join(composeFaults(t, strings.ReplaceAll(text, plant.from, plant.to)), "\n"), plant.want)
		})
	}
}
