package check_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/postrider/postrider/deploy/check"
)

const root = "../../"

// against is what the manifests of an overlay are held against.
func against(t *testing.T, namespace string) check.Context {
	t.Helper()
	schemas, err := check.NewSchemas()
	require.NoError(t, err)
	return check.Context{Schemas: schemas, Options: options(t), Secrets: documented(t), Namespace: namespace}
}

var option = regexp.MustCompile("`(POSTRIDER_[A-Z0-9_]+)`")

// options reads which variables each service knows.
func options(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(root + "docs/configuration.md")
	require.NoError(t, err)
	out := map[string][]string{}
	service := ""
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			service = strings.TrimSpace(name)
		}
		if m := option.FindStringSubmatch(line); m != nil && strings.HasPrefix(line, "| `--") {
			out[service] = append(out[service], m[1])
		}
	}
	return out
}

var secret = regexp.MustCompile("(?m)^\\| `(postrider-[a-z-]+)` \\|")

// documented reads which Secrets the operator makes.
func documented(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(root + "docs/kubernetes.md")
	require.NoError(t, err)
	var out []string
	for _, m := range secret.FindAllStringSubmatch(string(text), -1) {
		out = append(out, m[1])
	}
	return out
}

func render(t *testing.T, path string) []check.Object {
	t.Helper()
	objects, err := check.Render(root + "k8s/" + path)
	require.NoError(t, err)
	require.NotEmpty(t, objects)
	return objects
}

func TestOverlays(t *testing.T) {
	t.Parallel()
	for path, namespace := range map[string]string{
		"base": "", "overlays/development": "postrider-development", "overlays/production": "postrider",
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			for _, fault := range check.Faults(against(t, namespace), render(t, path)) {
				t.Error(fault)
			}
		})
	}
}

// The base needs no operator.
func TestTheBaseNeedsNoCRD(t *testing.T) {
	t.Parallel()
	for _, o := range render(t, "base") {
		version, _ := o["apiVersion"].(string)
		require.Regexp(t, `^(v1|(apps|policy|autoscaling)/v[12])$`, version)
	}
}

// What monitors production is what is tested: the rules and the dashboards are their sources, and
// what is scraped has the labels that rules ask for.
func TestMonitoringIsItsSource(t *testing.T) {
	t.Parallel()
	var groups []any
	sources, err := filepath.Glob("../prometheus/rules/*.yml")
	require.NoError(t, err)
	require.NotEmpty(t, sources)
	for _, path := range sources {
		var file struct {
			Groups []any `json:"groups"`
		}
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, yaml.Unmarshal(text, &file))
		groups = append(groups, file.Groups...)
	}
	boards, err := filepath.Glob("../grafana/dashboards/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, boards)
	found := map[string]bool{}
	for _, o := range render(t, "overlays/production") {
		text, err := json.Marshal(o)
		require.NoError(t, err)
		switch o["kind"] {
		case "PrometheusRule":
			found["rules"] = true
			want, err := json.Marshal(groups)
			require.NoError(t, err)
			require.JSONEq(t, string(want), part(t, text, "spec", "groups"), "rules.yaml is stale: run make k8s/monitoring")
		case "PodMonitor":
			found["monitor"] = true
			require.Contains(t, string(text), `{"replacement":"postrider","targetLabel":"job"}`)
			require.Contains(t, string(text), `"targetLabel":"service"`)
		case "ConfigMap":
			var m struct{ Data map[string]string }
			require.NoError(t, json.Unmarshal(text, &m))
			if _, ok := m.Data["overview.json"]; !ok {
				continue
			}
			found["dashboards"] = true
			require.Len(t, m.Data, len(boards))
			for _, path := range boards {
				want, err := os.ReadFile(path)
				require.NoError(t, err)
				require.Equal(t, string(want), m.Data[filepath.Base(path)], "the dashboards are stale: run make k8s/monitoring")
			}
		}
	}
	require.Equal(t, map[string]bool{"rules": true, "monitor": true, "dashboards": true}, found)
}

// part is a part of an object, as JSON.
func part(t *testing.T, text []byte, path ...string) string {
	t.Helper()
	var value any
	require.NoError(t, json.Unmarshal(text, &value))
	for _, key := range path {
		value = value.(map[string]any)[key] // a panic is a failure
	}
	out, err := json.Marshal(value)
	require.NoError(t, err)
	return string(out)
}

// Every component renders over the base, also those that no overlay has.
func TestComponents(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(root + "k8s/components")
	require.NoError(t, err)
	for _, e := range entries {
		t.Run(e.Name(), func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp(root+"k8s", ".test-") // kustomize reads nothing above its root otherwise
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
			overlay := "resources: [../base]\ncomponents: [../components/" + e.Name() + "]\n"
			require.NoError(t, os.WriteFile(dir+"/kustomization.yaml", []byte(overlay), 0o600))
			objects, err := check.Render(dir)
			require.NoError(t, err)
			for _, fault := range check.Faults(against(t, ""), objects) {
				t.Error(fault)
			}
		})
	}
}

// Each rule finds a violation that is planted in what production renders.
func TestTheRulesBite(t *testing.T) {
	t.Parallel()
	objects, err := json.Marshal(render(t, "overlays/production"))
	require.NoError(t, err)
	c := against(t, "postrider")
	for name, plant := range map[string]struct{ from, to, want string }{
		"a misspelt field":                 {`"terminationGracePeriodSeconds"`, `"terminationGracePeriod"`, "additional properties 'terminationGracePeriod' not allowed"},
		"a wrong type":                     {`"minReadySeconds":5`, `"minReadySeconds":"5"`, "got string, want integer"},
		"a removed version":                {`"policy/v1"`, `"policy/v1beta1"`, "no schema of policy/v1beta1"},
		"a field that the CRD lacks":       {`"pollingInterval"`, `"pollInterval"`, "'pollInterval' not allowed"},
		"a config map that is not there":   {`"configMapRef":{"name":"postrider-`, `"configMapRef":{"name":"other-`, "is not there"},
		"a secret that nobody makes":       {`"secretName":"postrider-router-tls"}`, `"secretName":"postrider-rooter-tls"}`, "nobody makes the secret"},
		"root":                             {`"runAsNonRoot":true`, `"runAsNonRoot":false`, "may run as root"},
		"a writable root":                  {`"readOnlyRootFilesystem":true`, `"readOnlyRootFilesystem":false`, "may write to its root"},
		"capabilities":                     {`"drop":["ALL"]`, `"drop":["NET_RAW"]`, "keeps capabilities"},
		"a token":                          {`"automountServiceAccountToken":false`, `"automountServiceAccountToken":true`, "token"},
		"no version":                       {`"image":"ghcr.io/postrider/api:devel"`, `"image":"ghcr.io/postrider/api"`, "has no version"},
		"a probe of another service":       {`"grpc":{"port":8081,"service":"liveness"}`, `"grpc":{"port":8081,"service":"readiness"}`, "its liveness probe"},
		"a probe at another port":          {`"grpc":{"port":8081,"service":"startup"}`, `"grpc":{"port":9090,"service":"startup"}`, "not at the health port"},
		"a grace that is too short":        {`"terminationGracePeriodSeconds":60`, `"terminationGracePeriodSeconds":40`, "is killed after"},
		"no pause before the stop":         {`"preStop":{"sleep":{"seconds":5}}`, `"preStop":{"sleep":{"seconds":0}}`, "stops listening"},
		"an option that is not there":      {`"POSTRIDER_API_LOG_URL"`, `"POSTRIDER_API_LOGURL"`, "is no option of api"},
		"a file that is not mounted":       {`"file:/run/secrets/postrider/admin-key"`, `"file:/run/secrets/postrider/adminkey"`, "where nothing is mounted"},
		"a variable after its use":         {`"POSTRIDER_STOP_GRACE","value":"35s"`, `"POSTRIDER_STOP_GRACE","value":"$(POSTRIDER_NAME)"`, "which is not before it"},
		"a target that is not headless":    {`dns:///scheduler:9090`, `dns:///ingest:9090`, "no headless service"},
		"a port that no container has":     {`"targetPort":"internal"`, `"targetPort":"inside"`, "has no port inside"},
		"replicas beside a scaler":         {`"minReadySeconds":5,`, `"minReadySeconds":5,"replicas":2,`, "states replicas too"},
		"a stream that is not there":       {`"stream":"DELIVERIES_3"`, `"stream":"DELIVERY_3"`, "has no trigger for map[DELIVERIES_3"},
		"a segment that is not scaled for": {`"POSTRIDER_STREAMS_SEGMENTS":"1"`, `"POSTRIDER_STREAMS_SEGMENTS":"3"`, "has no trigger for map[EVENTS_1:router EVENTS_2:router]"},
		"a consumer that is not there":     {`"consumer":"router"`, `"consumer":"routers"`, "no consumer routers"},
		"a key that KEDA does not read":    {`"lagThreshold"`, `"lagTreshold"`, "knows no lagTreshold"},
		"more dispatchers than shards":     {`"maxReplicaCount":6`, `"maxReplicaCount":30`, "the shards and two"},
		"another namespace":                {`"namespace":"postrider"`, `"namespace":"default"`, "is not in the namespace"},
		"a CPU limit":                      {`"limits":{"memory":"256Mi"}`, `"limits":{"memory":"256Mi","cpu":"1"}`, "has a CPU limit"},
		"a budget of both":                 {`"maxUnavailable":1,"selector"`, `"maxUnavailable":1,"minAvailable":1,"selector"`, "not maxUnavailable alone"},
		"an exception outside its network": {`"224.0.0.0/4"`, `"2001:db8:1::/48"`, "is not within 0.0.0.0/0"},
		"a metadata service in reach":      {`"169.254.0.0/16"`, `"169.255.0.0/16"`, "lets through to 169.254.169.254"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, string(objects), plant.from, "there is something to plant it in")
			var planted []check.Object
			require.NoError(t, json.Unmarshal([]byte(strings.ReplaceAll(string(objects), plant.from, plant.to)), &planted))
			require.Contains(t, strings.Join(check.Faults(c, planted), "\n"), plant.want)
		})
	}
}
