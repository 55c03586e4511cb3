//go:build bans

package arch

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// linters says which linter reports what is planted, and as which of its rules.
var linters = map[string]string{
	RuleJetStream: "depguard jetstream",
	RuleRedis:     "depguard redis",
	RuleFixtures:  "depguard fixtures",
	"exit":        "forbidigo",
	"sleep":       "forbidigo",
}

// unlinted is in no build that the linter makes, since it sets the tag integration. The
// import graph covers it.
const unlinted = "services/router/router_plain_test.go"

// The configuration of the repository is laid over a copy of the planted workspace, so
// its globs are tried where they stand. The copy lies below folders whose names are in
// those globs: one that is not bound to the root of the repository lets everything pass.
func TestBansBite(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "test", "services", "standalone", "postrider")
	require.NoError(t, os.CopyFS(dir, os.DirFS(planted)))
	config, err := os.ReadFile(filepath.Join(root, ".golangci.yml"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".golangci.yml"), config, 0o600))

	want := map[string][]string{}
	proven := map[string]bool{}
	for _, m := range marks(t, dir) {
		linter, ok := linters[m.rule]
		if !ok || m.file == unlinted {
			continue
		}
		proven[m.rule] = true
		for _, from := range []string{".", "services/ingest"} {
			if inside(m.file, from) || from == "." {
				want[from] = append(want[from], fmt.Sprintf("%s:%d %s", m.file, m.line, linter))
			}
		}
	}
	require.Len(t, proven, len(linters), "each ban needs a planted violation")

	t.Run("from the root, all modules in one load", func(t *testing.T) {
		t.Parallel()
		patterns := strings.Fields(output(t, dir, "go", "list", "-m", "-f", "{{.Dir}}/..."))
		require.ElementsMatch(t, want["."], lint(t, dir, patterns...))
	})
	t.Run("from the folder of a module", func(t *testing.T) {
		t.Parallel()
		require.ElementsMatch(t, want["services/ingest"], lint(t, filepath.Join(dir, "services/ingest"), "./..."))
	})
}

var depguardList = regexp.MustCompile(`from list '(\w+)'`)

// lint returns what the linters of the map above report, as "<file>:<line> <linter>".
func lint(t *testing.T, dir string, patterns ...string) []string {
	t.Helper()
	program, err := filepath.Abs(filepath.Join(root, "bin", "golangci-lint"))
	require.NoError(t, err)
	args := []string{
		"run", "--allow-parallel-runners", "--show-stats=false", "--output.json.path=stdout",
		"--issues-exit-code=0", "--enable-only=depguard,forbidigo",
	}
	out := output(t, dir, program, append(args, patterns...)...)
	var report struct {
		Issues []struct {
			FromLinter, Text string
			Pos              struct {
				Filename string
				Line     int
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(out), &report), out)
	var found []string
	for _, issue := range report.Issues {
		line := fmt.Sprintf("%s:%d %s", filepath.ToSlash(issue.Pos.Filename), issue.Pos.Line, issue.FromLinter)
		if m := depguardList.FindStringSubmatch(issue.Text); m != nil {
			line += " " + m[1]
		}
		found = append(found, line)
	}
	return found
}

// output runs a program in the planted workspace, with caches of its own.
func output(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=", "GOFLAGS=", "GOPROXY=off", "GOLANGCI_LINT_CACHE="+t.TempDir())
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		require.NoError(t, err, string(exit.Stderr))
	}
	require.NoError(t, err)
	return string(out)
}
