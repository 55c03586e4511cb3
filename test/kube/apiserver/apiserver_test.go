// Package apiserver_test asks a real API server about the manifests: the admission, the defaults and
// the validation that no schema has.
package apiserver_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/kube/sandbox"
)

// TestMain moves into namespaces of its own: ports are free there, and what is started ends with it.
func TestMain(m *testing.M) {
	code, done, err := sandbox.Isolate()
	if err == nil && !done {
		_, err = sandbox.NewNetwork()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code, done = 1, true
	}
	if done {
		os.Exit(code) //nolint:forbidigo // this is the main of the tests
	}
	m.Run()
}

// patience bounds the start of the API server, on a slow machine too.
const patience = 5 * time.Minute

// cluster is an API server with etcd and nothing else: no controller makes a pod.
type cluster struct {
	root   string // of the checkout
	config string // of kubectl
}

// run starts a program until the test ends.
func run(t *testing.T, log, path string, args ...string) {
	t.Helper()
	out, err := os.Create(log)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(t, cmd.Start(), "make check/kube builds it")
	t.Cleanup(func() {
		_ = cmd.Wait() // it was killed with the test's context
		_ = out.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log)
			t.Logf("%s:\n%s", path, text[max(0, len(text)-3000):])
		}
	})
}

// token is the credential of kubectl.
const token = "token-of-the-test"

func start(t *testing.T) *cluster {
	t.Helper()
	root, err := filepath.Abs("../../..")
	require.NoError(t, err)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	for name, text := range map[string]string{
		"accounts.key": string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})),
		"tokens.csv":   token + `,admin,admin,"system:masters"` + "\n",
		"kubeconfig": `apiVersion: v1
kind: Config
clusters: [{name: here, cluster: {server: "https://127.0.0.1:6443", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: ` + token + `}}]
contexts: [{name: here, context: {cluster: here, user: admin}}]
current-context: here
`,
	} {
		require.NoError(t, os.WriteFile(at(name), []byte(text), 0o600))
	}
	run(t, at("etcd.log"), filepath.Join(root, "bin/etcd"), "--data-dir", at("etcd"), "--unsafe-no-fsync",
		"--listen-client-urls", "http://127.0.0.1:2379", "--advertise-client-urls", "http://127.0.0.1:2379",
		"--listen-peer-urls", "http://127.0.0.1:2380", "--initial-advertise-peer-urls", "http://127.0.0.1:2380", "--initial-cluster", "default=http://127.0.0.1:2380")
	run(t, at("apiserver.log"), filepath.Join(root, "bin/kube-apiserver"), "--etcd-servers", "http://127.0.0.1:2379",
		"--bind-address", "127.0.0.1", "--advertise-address", sandbox.Gateway.String(), "--secure-port", "6443", "--cert-dir", at("certs"),
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", at("accounts.key"),
		"--service-account-signing-key-file", at("accounts.key"), "--token-auth-file", at("tokens.csv"),
		"--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.96.0.0/16")
	c := &cluster{root: root, config: at("kubeconfig")}
	require.Eventually(t, func() bool {
		out, err := c.kubectl(t, "", "get", "--raw", "/readyz")
		return err == nil && out == "ok"
	}, patience, 500*time.Millisecond, "the API server is not ready")
	return c
}

func (c *cluster) kubectl(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(c.root, "bin/kubectl"), append([]string{"--kubeconfig", c.config}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// dryRun is what the API server says of objects, warnings included, without keeping them.
func (c *cluster) dryRun(t *testing.T, objects string) (string, error) {
	t.Helper()
	return c.kubectl(t, objects, "apply", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", "-")
}

// TestTheServerTakesTheManifests applies both overlays as a dry run, and sees that what is wrong
// with them is refused.
func TestTheServerTakesTheManifests(t *testing.T) {
	c := start(t)
	out, err := c.kubectl(t, "", "apply", "--server-side", "-f", filepath.Join(c.root, "var/kube/crds"))
	require.NoError(t, err, out)
	out, err = c.kubectl(t, "", "wait", "--for=condition=Established", "--timeout=120s", "crd", "--all")
	require.NoError(t, err, out)
	rendered := map[string]string{}
	for _, overlay := range []string{"development", "production"} {
		dir := filepath.Join(c.root, "k8s/overlays", overlay)
		// Admission of pods asks the namespace's labels, so that is there for real.
		out, err := c.kubectl(t, "", "apply", "-f", filepath.Join(dir, "namespace.yaml"))
		require.NoError(t, err, out)
		rendered[overlay], err = c.kubectl(t, "", "kustomize", dir)
		require.NoError(t, err, rendered[overlay])
		out, err = c.dryRun(t, rendered[overlay])
		require.NoError(t, err, out)
		t.Logf("%s:\n%s", overlay, out)
	}
	for name, plant := range map[string]struct{ from, to, want string }{
		"a sleep that is longer than the grace": {"seconds: 5", "seconds: 500", "less than terminationGracePeriodSeconds (50)"},
		"a pod that may be root":                {"runAsNonRoot: true", "runAsNonRoot: false", "violate PodSecurity"},
		"a selector of other pods":              {"matchLabels:\n      app.kubernetes.io/instance: postrider\n      app.kubernetes.io/name: router\n  strategy", "matchLabels:\n      app.kubernetes.io/name: other\n  strategy", "`selector` does not match template `labels`"},
		"a budget of both":                      {"maxUnavailable: 1\n  selector", "maxUnavailable: 1\n  minAvailable: 1\n  selector", "minAvailable and maxUnavailable cannot be both set"},
		"an exception outside of its network":   {"- 224.0.0.0/4", "- 2001:db8::/64", "must be a strict subset of `cidr`"},
		"a limit below the request":             {"limits:\n            memory: 256Mi", "limits:\n            memory: 25Mi", "must be less than or equal to memory limit"},
		"a field that is not there":             {"minReadySeconds: 5", "minReadySecond: 5", "unknown field"},
		"a field that a CRD lacks":              {"pollingInterval: 15", "pollInterval: 15", "unknown field"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, rendered["production"], plant.from, "there is something to plant it in")
			out, err := c.dryRun(t, strings.ReplaceAll(rendered["production"], plant.from, plant.to))
			require.Error(t, err)
			require.Contains(t, out, plant.want)
		})
	}
}
