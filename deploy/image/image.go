// Package image builds the container images of the services without a container engine: OCI image
// layouts around the same static binaries that deploy/Dockerfile builds, with the same
// configuration. Nothing in them depends on when, where or by whom they are built, so two builds of
// one commit have one digest.
package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Path is where the binary is in an image; the image holds nothing else.
const Path = "/service"

// User is whom the process runs as, by number: Kubernetes cannot tell that a name is not root.
const User = "65532:65532"

// Spec says what an image is of.
type Spec struct {
	Service  string // "ingest"
	Version  string // the label
	Revision string // the commit
	// Binaries are the static binaries by architecture, in Go's words.
	Binaries map[string]string
}

// Architectures are those that every image is built for, in the order of the index.
func Architectures() []string { return []string{"amd64", "arm64"} }

// Labels are the image's labels, the keys of the OCI's annotations.
func Labels(s Spec) map[string]string {
	const key = "org.opencontainers.image."
	return map[string]string{
		key + "title":         "postrider-" + s.Service,
		key + "description":   "Postrider delivers webhooks and loses none",
		key + "source":        "https://github.com/postrider/postrider",
		key + "documentation": "https://github.com/postrider/postrider/blob/main/docs/kubernetes.md",
		key + "licenses":      "Apache-2.0",
		key + "version":       s.Version,
		key + "revision":      s.Revision,
	}
}

// Ports are the ports that a service may listen on: HTTP, gRPC health, gRPC, gRPC between services
// (api) and metrics.
func Ports() []string { return []string{"8080/tcp", "8081/tcp", "9090/tcp", "9091/tcp", "9464/tcp"} }

// Index is the image of every architecture.
func Index(s Spec) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range Architectures() {
		path, ok := s.Binaries[arch]
		if !ok {
			return nil, fmt.Errorf("image of %s: no binary for %s", s.Service, arch)
		}
		img, err := one(s, arch, path)
		if err != nil {
			return nil, fmt.Errorf("image of %s for %s: %w", s.Service, arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        img,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	return index, nil
}

// Write replaces dir by an OCI layout that holds the index alone, and returns its digest.
func Write(dir string, index v1.ImageIndex) (string, error) {
	fresh := dir + ".new"
	if err := errors.Join(os.RemoveAll(fresh), os.MkdirAll(filepath.Dir(fresh), 0o750)); err != nil {
		return "", err
	}
	l, err := layout.Write(fresh, empty.Index)
	if err != nil {
		return "", fmt.Errorf("write the layout: %w", err)
	}
	if err := l.AppendIndex(index); err != nil {
		return "", fmt.Errorf("write the layout: %w", err)
	}
	if err := errors.Join(os.RemoveAll(dir), os.Rename(fresh, dir)); err != nil {
		return "", err
	}
	digest, err := index.Digest()
	if err != nil {
		return "", err
	}
	return digest.String(), nil
}

// one is the image of one architecture.
func one(s Spec, arch, path string) (v1.Image, error) {
	data, err := layer(path)
	if err != nil {
		return nil, err
	}
	binary, err := tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
		tarball.WithMediaType(types.OCILayer),
	)
	if err != nil {
		return nil, err
	}
	ports := map[string]struct{}{}
	for _, port := range Ports() {
		ports[port] = struct{}{}
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.Append(img, mutate.Addendum{
		Layer: binary, History: v1.History{CreatedBy: "COPY /service", Created: v1.Time{Time: epoch()}},
	})
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created = "linux", arch, v1.Time{Time: epoch()}
	file.Config = v1.Config{User: User, Entrypoint: []string{Path}, WorkingDir: "/", ExposedPorts: ports, Labels: Labels(s)}
	return mutate.ConfigFile(img, file)
}

// layer is a tar of the binary alone, with fixed owner, mode and time.
func layer(path string) ([]byte, error) {
	binary, err := os.ReadFile(path) //nolint:gosec // the path is the builder's own
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	header := &tar.Header{
		Typeflag: tar.TypeReg, Name: Path[1:], Mode: 0o555, Size: int64(len(binary)),
		ModTime: epoch(), Format: tar.FormatUSTAR,
	}
	if err := w.WriteHeader(header); err != nil {
		return nil, err
	}
	if _, err := w.Write(binary); err != nil {
		return nil, err
	}
	return out.Bytes(), w.Close()
}

// epoch stands for every time in an image.
func epoch() time.Time { return time.Unix(0, 0).UTC() }
