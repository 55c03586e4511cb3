package composefile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/kube/composefile"
)

const path = "../../../docker-compose.yml"

// load loads a compose file that lies where ours does.
func load(t *testing.T, text, env string) (*composefile.File, error) {
	t.Helper()
	dir := t.TempDir()
	file, variables := filepath.Join(dir, "docker-compose.yml"), filepath.Join(dir, ".env")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	require.NoError(t, os.WriteFile(variables, []byte(env), 0o600))
	return composefile.Load(t.Context(), file, variables)
}

const env = "POSTRIDER_KEY=an-admin-key-of-a-test\nPOSTRIDER_ENCRYPTION_KEY=YS1rZXlzZXQ=\n"

func ours(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// Every field of our file is honoured or is knowingly left to an engine.
func TestEverythingIsAccountedFor(t *testing.T) {
	t.Parallel()
	f, err := load(t, ours(t), env)
	require.NoError(t, err)
	for _, name := range []string{"ingest", "router", "dispatcher", "scheduler", "api"} {
		require.Equal(t, 2, f.Services[name].Replicas(), name)
	}
	require.Equal(t, "an-admin-key-of-a-test", f.Services["api"].Environment["POSTRIDER_ADMIN_KEY"])
	require.Equal(t, "YS1rZXlzZXQ=", f.Services["dispatcher"].Environment["POSTRIDER_ENCRYPTION_KEY"])
}

// Compose wants every variable before it runs any service: the keyset cannot be made by the file that
// needs it.
func TestEveryKeyIsAskedFor(t *testing.T) {
	t.Parallel()
	for line := range strings.Lines(env) {
		_, err := load(t, ours(t), strings.Replace(env, line, "", 1))
		name, _, _ := strings.Cut(line, "=")
		require.ErrorContains(t, err, name)
	}
}

// A field and a form that nobody honours are named, wherever they are.
func TestNothingIsPassedOver(t *testing.T) {
	t.Parallel()
	text := ours(t)
	for name, plant := range map[string]struct{ from, to, want string }{
		"a field of a service":       {"stop_grace_period: 40s", "stop_grace_period: 40s\n  pid: host", `"pid"`},
		"a field of a health check":  {"timeout: 2s, retries: 30", "timeout: 2s, retries: 30, start_period: 9s", `"start_period"`},
		"a field of a port":          {`"127.0.0.1:3000:3000"`, `{target: 3000, published: "3000", host_ip: 127.0.0.1, app_protocol: http}`, `"app_protocol"`},
		"a field of a mount":         {`"postgres:/var/lib/postgresql/data"`, `{type: volume, source: postgres, target: /data, volume: {nocopy: true}}`, `"nocopy"`},
		"a field of a volume":        {"\n  postgres:\n  prometheus:\n", "\n  postgres: {driver: other}\n  prometheus:\n", `"driver"`},
		"a limit":                    {"deploy: &two {replicas: 2}", "deploy: &two {replicas: 2, resources: {limits: {memory: 64M}}}", `"limits"`},
		"a field of a dependency":    {"redis: {condition: service_healthy}", "redis: {condition: service_healthy, restart: true}", `"restart"`},
		"another condition":          {"redis: {condition: service_healthy}", "redis: {condition: service_completed_successfully}", "cannot wait for redis"},
		"another policy of restarts": {`restart: "no"`, "restart: on-failure", "restart policy on-failure"},
		"another form of a check":    {"[CMD, redis-cli, ping]", "[CMD-SHELL, redis-cli ping]", "CMD-SHELL"},
		"another user":               {"    profiles: [cli]", "    user: \"0:0\"\n    profiles: [cli]", `"user"`},
		"fewer ports than replicas":  {"9090-9091:9090", "9090:9090", "not as many ports as replicas"},
		"a network":                  {"    profiles: [cli]", "    network_mode: host\n    profiles: [cli]", `"network_mode"`},
		"an entry for nothing":       {"    ports: [", "    expose: [", "elsewhere.go lists services.*.ports[].mode"},
		"a secret":                   {"\nvolumes:\n", "\nsecrets: {one: {file: ./one}}\nvolumes:\n", `"secrets"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, text, plant.from, "there is something to plant it in")
			_, err := load(t, strings.ReplaceAll(text, plant.from, plant.to), env)
			require.ErrorContains(t, err, plant.want)
		})
	}
}
