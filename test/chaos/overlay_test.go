//go:build chaos

package chaos

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// edit is a change of a file of the product, for binaries that only a drill runs. The text is there
// exactly once, or the edit is stale and building fails.
type edit struct {
	file     string // from the repository's root
	old, new string
}

// crashPoint is a place between two steps of an order rule. A binary that is built with points dies
// there, by SIGKILL, when it is told to.
type crashPoint struct {
	service string
	name    string // the last step that was done, and the first that was not
	file    string
	after   string // lines after which it is, or
	before  string // the line before which it is
}

func (p crashPoint) edit() edit {
	hook := fmt.Sprintf("\tcrashPoint(%q)\n", p.name)
	if p.before != "" {
		return edit{p.file, p.before, hook + p.before}
	}
	return edit{p.file, p.after, p.after + "\n" + hook}
}

// hook is added to each package that has crash points. A process is told by a file of its instance's
// name: the point, and how often it has to get there.
const hook = `package %s

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

var crashPointMet atomic.Int64

func crashPoint(name string) {
	file := filepath.Join(os.Getenv("POSTRIDER_CRASH_POINTS"), os.Getenv("POSTRIDER_INSTANCE"))
	armed, err := os.ReadFile(file)
	if err != nil {
		return
	}
	point, times, _ := strings.Cut(string(armed), "\n")
	n, _ := strconv.ParseInt(times, 10, 64)
	if point != name {
		return
	}
	switch met := crashPointMet.Add(1); {
	case met < n:
		return
	case met > n: // another is at it
		select {}
	}
	_ = os.WriteFile(file+".met", []byte(name), 0o600)
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}
`

// buildWith builds services with crash points, and with some more edits, into a folder that it returns.
// The product's own files are left alone: the compiler is given others in their place.
func buildWith(t *testing.T, services []string, edits ...edit) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	require.NoError(t, os.Mkdir(bin, 0o700))
	args := []string{"build", "-trimpath", "-overlay", overlay(t, root, dir, edits), "-o", bin}
	for _, service := range services {
		args = append(args, "./services/"+service+"/cmd/"+service)
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return bin
}

var packageClause = regexp.MustCompile(`(?m)^package (\w+)$`)

// overlay writes the files that the compiler is to take instead, those of all crash points and of the
// edits, and returns the list of them.
func overlay(t *testing.T, root, dir string, edits []edit) string {
	t.Helper()
	texts := map[string]string{}
	for _, p := range crashPoints {
		edits = append(edits, p.edit())
	}
	for _, e := range edits {
		path := filepath.Join(root, e.file)
		text, ok := texts[path]
		if !ok {
			raw, err := os.ReadFile(path)
			require.NoError(t, err)
			text = string(raw)
		}
		require.Equal(t, 1, strings.Count(text, e.old), "%s has changed, and this edit has not: %s", e.file, e.old)
		texts[path] = strings.Replace(text, e.old, e.new, 1)
		name := packageClause.FindStringSubmatch(text)
		require.Len(t, name, 2)
		texts[filepath.Join(filepath.Dir(path), "crashpoint.go")] = fmt.Sprintf(hook, name[1])
	}
	list := struct{ Replace map[string]string }{map[string]string{}}
	for path, text := range texts {
		file := filepath.Join(dir, fmt.Sprintf("%d.go", len(list.Replace)))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		list.Replace[path] = file
	}
	raw, err := json.Marshal(list)
	require.NoError(t, err)
	file := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(file, raw, 0o600))
	return file
}
