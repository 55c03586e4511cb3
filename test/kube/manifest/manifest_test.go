package manifest_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/deploy/check"
	"github.com/postrider/postrider/test/kube/manifest"
)

// production is what the overlay renders.
func production(t *testing.T) string {
	t.Helper()
	objects, err := check.Render("../testdata/site")
	require.NoError(t, err)
	text, err := json.Marshal(objects)
	require.NoError(t, err)
	return string(text)
}

func load(t *testing.T, text string) (*manifest.Set, error) {
	t.Helper()
	var objects []map[string]any
	require.NoError(t, json.Unmarshal([]byte(text), &objects))
	return manifest.Load(objects)
}

// Every field of production is honoured or is knowingly left to a cluster.
func TestEverythingIsAccountedFor(t *testing.T) {
	t.Parallel()
	set, err := load(t, production(t))
	require.NoError(t, err)
	require.Len(t, set.Deployments, 5)
}

// A field, a kind and a form that nobody honours are named, wherever they are.
func TestNothingIsPassedOver(t *testing.T) {
	t.Parallel()
	text := production(t)
	for name, plant := range map[string]struct{ from, to, want string }{
		"a field of a pod":         {`"enableServiceLinks":false`, `"enableServiceLinks":false,"hostNetwork":true`, "Deployment api: nobody honours spec.template.spec.hostNetwork"},
		"a field of a container":   {`"name":"service"`, `"name":"service","workingDir":"/x"`, "nobody honours spec.template.spec.containers[].workingDir"},
		"a field of a probe":       {`"periodSeconds":5`, `"periodSeconds":5,"initialDelaySeconds":9`, "containers[].readinessProbe.initialDelaySeconds"},
		"another form of a probe":  {`"grpc":{"port":8081,"service":"liveness"}`, `"tcpSocket":{"port":8081}`, "containers[].livenessProbe.tcpSocket.port"},
		"another source of values": {`"fieldRef":{"fieldPath":"metadata.name"}`, `"resourceFieldRef":{"resource":"limits.memory"}`, "env[].valueFrom.resourceFieldRef.resource"},
		"another kind of volume":   {`"secret":{"defaultMode":288,"secretName":"postrider-api-tls"}`, `"hostPath":{"path":"/"}`, "volumes[].hostPath.path"},
		"a kind":                   {`"kind":"PodDisruptionBudget"`, `"kind":"CronJob"`, "CronJob api: nobody honours this kind"},
		"an entry for nothing":     {`"trafficDistribution":"PreferSameZone"`, `"clusterIP":""`, "elsewhere.go lists Service spec.trafficDistribution, which no manifest has"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, text, plant.from, "there is something to plant it in")
			_, err := load(t, strings.ReplaceAll(text, plant.from, plant.to))
			require.ErrorContains(t, err, plant.want)
		})
	}
}
