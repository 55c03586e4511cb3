package apiserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// command is what a document has typed into a shell: a block, or a call in the middle of a sentence.
type command struct{ file, text string }

var inline = regexp.MustCompile("`(kubectl [^`]+)`")

// commands are those that call kubectl. Of a block its other lines are left out: they need what is not there.
func commands(t *testing.T, root string) []command {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "docs/runbooks/*.md"))
	require.NoError(t, err)
	files = append(files, filepath.Join(root, "docs/kubernetes.md"))
	var all []command
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		inBlock, block := false, ""
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			switch {
			case strings.HasPrefix(line, "```"):
				if block != "" {
					all = append(all, command{filepath.Base(file), block})
				}
				inBlock, block = !inBlock, ""
			case inBlock && strings.Contains(line, "kubectl"):
				block += strings.TrimSuffix(line, "&") + "\n"
			case !inBlock:
				for _, m := range inline.FindAllStringSubmatch(line, -1) {
					all = append(all, command{filepath.Base(file), m[1]})
				}
			}
		}
	}
	return all
}

// placeholders are what a reader fills in.
var placeholders = strings.NewReplacer("deploy/NAME", "deploy/dispatcher", "pod POD", "pod dispatcher-0", "overlays/mine", "overlays/production")

// call is what became of one call of kubectl.
type call struct {
	args   []string
	code   int
	stdout string
	stderr string
}

// absent are the answers of a server behind which no kubelet, no controller and no metrics server
// stands: the call itself was right.
var absent = map[string]string{
	"logs":         "connection refused",
	"port-forward": "connection refused",
	"top":          "Metrics API not available",
	"rollout":      "Waiting for deployment",
	"debug":        "Defaulting debug container name", // the server took it; nobody starts it
}

// TestTheServerTakesTheCommandsOfTheRunbooks types every kubectl command of the runbooks and of the
// operator's guide against a server that holds production's objects, and pods as their controllers
// would make them. What a pipe does with the output is not judged.
func TestTheServerTakesTheCommandsOfTheRunbooks(t *testing.T) {
	c := start(t)
	c.production(t)
	all := commands(t, c.root)
	require.Greater(t, len(all), 30)
	shim := c.shim(t)
	for i, cmd := range all {
		t.Run(fmt.Sprintf("%s/%d", cmd.file, i), func(t *testing.T) {
			calls := shim.run(t, placeholders.Replace(cmd.text))
			require.NotEmpty(t, calls, cmd.text)
			for _, one := range calls {
				t.Log(strings.Join(one.args, " "))
				judge(t, one)
			}
		})
	}
}

// judge fails for a call that a cluster would not have taken, or that found nothing.
func judge(t *testing.T, c call) {
	t.Helper()
	verb := c.args[slices.IndexFunc(c.args, func(a string) bool { return !strings.HasPrefix(a, "-") && !strings.HasPrefix(a, "postrider") })]
	switch {
	case c.code == 0:
	case verb == "diff" && c.code == 1:
	case verb == "rollout" && strings.Contains(c.stderr, "already been triggered within the past second"): // by the command before it
	default:
		require.Contains(t, absent, verb, "%d: %s", c.code, c.stderr)
		require.Contains(t, c.stdout+c.stderr, absent[verb])
	}
	if verb == "get" && !slices.Contains(c.args, "events") {
		require.NotContains(t, c.stderr, "No resources found")
	}
}

// production applies production's objects, and makes what controllers would: two revisions of each
// Deployment and a pod that runs, on a node that has no kubelet. NATS's pod and volume stand for those of its chart.
func (c *cluster) production(t *testing.T) {
	t.Helper()
	must := func(stdin string, args ...string) string {
		t.Helper()
		out, err := c.kubectl(t, stdin, args...)
		require.NoError(t, err, out)
		return out
	}
	overlay := filepath.Join(c.root, "k8s/overlays/production")
	must("", "apply", "--server-side", "-f", filepath.Join(c.root, "var/kube/crds"))
	must("", "wait", "--for=condition=Established", "--timeout=120s", "crd", "--all")
	must("", "apply", "-f", filepath.Join(overlay, "namespace.yaml"))
	must(must("", "kustomize", overlay), "apply", "-f", "-")
	must(`{"apiVersion":"v1","kind":"Node","metadata":{"name":"node"}}`, "create", "-f", "-")
	must("", "patch", "node", "node", "--subresource=status", "-p",
		`{"status":{"addresses":[{"type":"InternalIP","address":"127.0.0.1"}],"daemonEndpoints":{"kubeletEndpoint":{"Port":10250}}}}`)
	var list struct {
		Items []struct {
			Metadata struct{ Name, UID string } `json:"metadata"`
			Spec     struct {
				Template struct {
					Metadata struct {
						Labels map[string]string `json:"labels"`
					} `json:"metadata"`
					Spec map[string]any `json:"spec"`
				} `json:"template"`
			} `json:"spec"`
		} `json:"items"`
	}
	require.NoError(t, json.Unmarshal([]byte(must("", "-n", "postrider", "get", "deploy", "-o", "json")), &list))
	require.Len(t, list.Items, 5)
	create := func(object map[string]any) {
		t.Helper()
		text, err := json.Marshal(object)
		require.NoError(t, err)
		must(string(text), "-n", "postrider", "create", "-f", "-")
	}
	pod := func(name string, labels map[string]string, spec map[string]any) {
		t.Helper()
		spec["nodeName"] = "node"
		create(map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "labels": labels}, "spec": spec})
		must("", "-n", "postrider", "patch", "pod", name, "--subresource=status", "-p",
			`{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}],"podIP":"127.0.0.1"}}`)
	}
	for _, d := range list.Items {
		for revision := range 2 {
			hash := "revision-" + strconv.Itoa(revision+1)
			labels := map[string]string{"pod-template-hash": hash}
			for k, v := range d.Spec.Template.Metadata.Labels {
				labels[k] = v
			}
			create(map[string]any{
				"apiVersion": "apps/v1", "kind": "ReplicaSet",
				"metadata": map[string]any{
					"name": d.Metadata.Name + "-" + hash, "labels": labels,
					"annotations": map[string]string{"deployment.kubernetes.io/revision": strconv.Itoa(revision + 1)},
					"ownerReferences": []map[string]any{{
						"apiVersion": "apps/v1", "kind": "Deployment", "name": d.Metadata.Name, "uid": d.Metadata.UID, "controller": true,
					}},
				},
				"spec": map[string]any{
					"selector": map[string]any{"matchLabels": labels},
					"template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": d.Spec.Template.Spec},
				},
			})
		}
		pod(d.Metadata.Name+"-0", d.Spec.Template.Metadata.Labels, d.Spec.Template.Spec)
	}
	must("", "-n", "postrider", "create", "serviceaccount", "default")
	chart := map[string]string{"app.kubernetes.io/name": "nats"}
	restricted := map[string]any{
		"runAsNonRoot": true, "runAsUser": 1000, "allowPrivilegeEscalation": false,
		"capabilities": map[string]any{"drop": []string{"ALL"}}, "seccompProfile": map[string]any{"type": "RuntimeDefault"},
	}
	pod("nats-0", chart, map[string]any{"containers": []map[string]any{{"name": "nats", "image": "nats", "securityContext": restricted}}})
	create(map[string]any{
		"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": map[string]any{"name": "nats-0", "labels": chart},
		"spec": map[string]any{"accessModes": []string{"ReadWriteOnce"}, "resources": map[string]any{"requests": map[string]string{"storage": "1Gi"}}},
	})
}

// shim is a kubectl that keeps account of what it is asked.
type shim struct {
	root string
	dir  string
}

// script runs kubectl and writes down its arguments, its exit code and what it said. What would take
// a pod away from the other commands is tried only.
const script = `#!/bin/bash
n=$(mktemp -d %[1]s/call-XXXXXX)
printf '%%s\n' "$@" > $n/args
dry=
for a in "$@"; do case $a in delete) dry=--dry-run=server;; esac; done
limit=120
case " $* " in *" status "* | *" debug "*) limit=8 ;; esac # they wait for what does not come
timeout $limit %[2]s --kubeconfig %[3]s "$@" $dry > $n/stdout 2> $n/stderr < /dev/null
echo $? > $n/code
cat $n/stdout
`

func (c *cluster) shim(t *testing.T) shim {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf(script, dir, filepath.Join(c.root, "bin/kubectl"), c.config)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kubectl"), []byte(text), 0o700)) //nolint:gosec // it is to be run
	return shim{root: c.root, dir: dir}
}

// run types a line into a shell, in the folder of the checkout.
func (s shim) run(t *testing.T, line string) (calls []call) {
	t.Helper()
	old, err := filepath.Glob(filepath.Join(s.dir, "call-*"))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", line)
	cmd.Dir = s.root
	cmd.Env = append(os.Environ(), "PATH="+s.dir+":"+filepath.Join(s.root, "bin")+":"+os.Getenv("PATH"))
	_ = cmd.Run() // the calls are judged, and not what their output was piped into
	all, err := filepath.Glob(filepath.Join(s.dir, "call-*"))
	require.NoError(t, err)
	for _, dir := range all {
		if slices.Contains(old, dir) {
			continue
		}
		read := func(name string) string {
			text, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			return strings.TrimSpace(string(text))
		}
		code, err := strconv.Atoi(read("code"))
		require.NoError(t, err)
		calls = append(calls, call{args: strings.Split(read("args"), "\n"), code: code, stdout: read("stdout"), stderr: read("stderr")})
	}
	return calls
}
