// Package arch holds the import rules of the repository: who may know whom. It owns no
// state; it reads the import graph and names every edge that breaks a rule.
package arch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// repository is the prefix of every module path.
const repository = "github.com/postrider/postrider/"

// buildTags are the constraints that hide files from a plain build.
const buildTags = "integration,e2e,chaos,bans"

// Package is one package of the repository and what its files import. Paths inside the
// repository are relative to its root, such as pkg/match; all others are whole.
type Package struct {
	// Path is the package's own path.
	Path string
	// Imports are those of the files that go into a binary.
	Imports []string
	// TestImports are those of the _test files, in the package and beside it.
	TestImports []string
}

// Load returns every package of the workspace at root. It reads what is on disk and
// never the network. Files behind the build tags of the repository count too.
func Load(ctx context.Context, root string) ([]Package, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("resolve the root: %w", err)
	}
	byPath := map[string]*Package{}
	// Files for a tag and files for its absence are never in one build.
	for _, tags := range []string{"", buildTags} {
		listed, err := list(ctx, root, tags)
		if err != nil {
			return nil, err
		}
		for _, l := range listed {
			path := relative(l.ImportPath)
			p, ok := byPath[path]
			if !ok {
				p = &Package{Path: path}
				byPath[path] = p
			}
			p.Imports = merge(p.Imports, l.Imports)
			p.TestImports = merge(p.TestImports, l.TestImports, l.XTestImports)
		}
	}
	pkgs := make([]Package, 0, len(byPath))
	for _, p := range byPath {
		pkgs = append(pkgs, *p)
	}
	slices.SortFunc(pkgs, func(a, b Package) int { return strings.Compare(a.Path, b.Path) })
	return pkgs, nil
}

// listed is what go list says of a package.
type listed struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func list(ctx context.Context, root, tags string) ([]listed, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-e", "-tags", tags,
		"-json=ImportPath,Imports,TestImports,XTestImports", repository+"...")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOWORK="+filepath.Join(root, "go.work"), "GOFLAGS=", "GOPROXY=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the packages of the workspace: %w: %s", err, stderr.String())
	}
	var pkgs []listed
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var l listed
		err := dec.Decode(&l)
		if errors.Is(err, io.EOF) {
			return pkgs, nil
		}
		if err != nil {
			return nil, fmt.Errorf("decode the package list: %w", err)
		}
		pkgs = append(pkgs, l)
	}
}

func relative(path string) string { return strings.TrimPrefix(path, repository) }

// merge adds the paths that are new to set, which stays sorted.
func merge(set []string, lists ...[]string) []string {
	for _, paths := range lists {
		for _, path := range paths {
			set = append(set, relative(path))
		}
	}
	slices.Sort(set)
	return slices.Compact(set)
}
