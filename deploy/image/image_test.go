package image_test

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/deploy/image"
)

const root = "../.."

// build builds the image of the smallest service from the sources in from.
func build(t *testing.T, from string) (v1.ImageIndex, string) {
	t.Helper()
	from, err := filepath.Abs(from)
	require.NoError(t, err)
	spec, err := image.Build(t.Context(), from, t.TempDir(), image.Spec{Service: "router", Version: "1.2.3", Revision: "abc"})
	require.NoError(t, err)
	index, err := image.Index(spec)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "router")
	digest, err := image.Write(dir, index)
	require.NoError(t, err)
	read, err := layout.ImageIndexFromPath(dir)
	require.NoError(t, err)
	manifest, err := read.IndexManifest()
	require.NoError(t, err)
	require.Len(t, manifest.Manifests, 1)
	require.Equal(t, digest, manifest.Manifests[0].Digest.String())
	written, err := read.ImageIndex(manifest.Manifests[0].Digest)
	require.NoError(t, err)
	return written, digest
}

func TestImage(t *testing.T) {
	t.Parallel()
	index, digest := build(t, root)
	manifest, err := index.IndexManifest()
	require.NoError(t, err)
	require.Len(t, manifest.Manifests, 2)
	for i, arch := range []string{"amd64", "arm64"} {
		require.Equal(t, &v1.Platform{OS: "linux", Architecture: arch}, manifest.Manifests[i].Platform)
		img, err := index.Image(manifest.Manifests[i].Digest)
		require.NoError(t, err)
		config, err := img.ConfigFile()
		require.NoError(t, err)
		require.Equal(t, arch, config.Architecture)
		said := dockerfile(t, map[string]string{"SERVICE": "router", "VERSION": "1.2.3", "REVISION": "abc"})
		require.Equal(t, said.user, config.Config.User)
		require.Equal(t, said.entrypoint, config.Config.Entrypoint)
		require.Equal(t, said.labels, config.Config.Labels)
		require.Equal(t, said.ports, slices.Sorted(maps.Keys(config.Config.ExposedPorts)))
		if arch == runtime.GOARCH {
			runs(t, img)
		}
	}

	// From the same sources in another folder comes the same image.
	elsewhere := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.Mkdir(elsewhere, 0o700))
	for _, name := range []string{"go.work", "go.work.sum", "pkg", "proto", "services", "test"} {
		out, err := exec.CommandContext(t.Context(), "cp", "-r", filepath.Join(root, name), elsewhere).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	_, again := build(t, elsewhere)
	require.Equal(t, digest, again)
}

// runs shows that the file system of the image is all that the service needs to say its version of
// the help, as the image's user where the test may choose one.
func runs(t *testing.T, img v1.Image) {
	t.Helper()
	files := mutate.Extract(img)
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "tar", "-x", "-C", dir)
	cmd.Stdin = files
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.NoError(t, files.Close())
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.NoError(t, os.Chmod(dir, 0o755))
	var help bytes.Buffer
	cmd = inside(t, dir)
	cmd.Stdout = &help
	require.NoError(t, cmd.Run())
	require.Contains(t, help.String(), "--nats-url")
}

// said is what the Dockerfile says of the image.
type said struct {
	user       string
	entrypoint []string
	labels     map[string]string
	ports      []string
}

func dockerfile(t *testing.T, args map[string]string) said {
	t.Helper()
	text, err := os.ReadFile("../Dockerfile")
	require.NoError(t, err)
	parsed, err := parser.Parse(bytes.NewReader(text))
	require.NoError(t, err)
	stages, _, err := instructions.Parse(parsed.AST, linter.New(&linter.Config{}))
	require.NoError(t, err)
	require.Len(t, stages, 2)
	last := stages[1]
	require.Equal(t, "scratch", last.BaseName)
	out := said{labels: map[string]string{}}
	for _, command := range last.Commands {
		switch c := command.(type) {
		case *instructions.UserCommand:
			out.user = c.User
		case *instructions.EntrypointCommand:
			require.False(t, c.PrependShell)
			out.entrypoint = c.CmdLine
		case *instructions.ExposeCommand:
			for _, port := range c.Ports {
				out.ports = append(out.ports, port+"/tcp")
			}
		case *instructions.LabelCommand:
			for _, label := range c.Labels {
				out.labels[label.Key] = os.Expand(strings.Trim(label.Value, `"`), func(name string) string { return args[name] })
			}
		}
	}
	return out
}

// What an image needs and cannot have as files is in every binary.
func TestBinariesBringRootsAndZones(t *testing.T) {
	t.Parallel()
	mains, err := filepath.Glob(root + "/services/*/cmd/*/main.go")
	require.NoError(t, err)
	require.Len(t, mains, 6)
	for _, main := range mains {
		cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "./"+filepath.Dir(strings.TrimPrefix(main, root+"/")))
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "GOWORK=")
		out, err := cmd.Output()
		require.NoError(t, err)
		require.Contains(t, string(out), "golang.org/x/crypto/x509roots/fallback\n", main)
		require.Contains(t, string(out), "time/tzdata\n", main)
	}
}
