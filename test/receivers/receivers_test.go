// Package receivers runs the snippets that receivers copy (docs/receivers/snippets) against good and
// bad requests, each in its own language. What is signed is signed by Postrider's own packages, and
// some of it is published by the systems themselves.
package receivers

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const snippets = "../../docs/receivers/snippets"

// A language runs one snippet.
type language struct {
	name string
	// needs are programs without which it cannot run.
	needs []string
	// forms are what the snippet verifies.
	forms []string
	// required says that the programs must be there in CI.
	required bool
	// command is the snippet's command; dir is for what it builds.
	command func(t *testing.T, dir string) []string
}

func languages() []language {
	script := func(words ...string) func(*testing.T, string) []string {
		return func(*testing.T, string) []string { return words }
	}
	both, all := []string{"standard", "jewelmusic"}, []string{"standard", "jewelmusic", "message"}
	return []language{
		{"Node", []string{"node"}, all, true, script("node", snippets+"/verify.mjs")},
		{"Python", []string{"python3"}, all, true, script("python3", snippets+"/verify.py")},
		{"shell", []string{"bash", "openssl"}, both, true, script("bash", snippets+"/verify.sh")},
		{"Java", []string{"javac", "java"}, all, false, compiled},
		{"PHP", []string{"php"}, both, true, script("php", snippets+"/verify.php")},
		{"Ruby", []string{"ruby"}, both, true, script("ruby", snippets+"/verify.rb")},
	}
}

func compiled(t *testing.T, dir string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "javac", "-Xlint:all", "-Werror", "-d", dir, snippets+"/Verify.java").CombinedOutput()
	require.NoError(t, err, string(out))
	return []string{"java", "-XX:TieredStopAtLevel=1", "-cp", dir, "Verify"}
}

func TestEverySnippetIsRun(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(snippets + "/*")
	require.NoError(t, err)
	require.Len(t, files, len(languages()))
}

func TestSnippets(t *testing.T) {
	t.Parallel()
	vectors := map[string]batch{"standard": standardVectors(t), "jewelmusic": jewelVectors(t), "message": messageVectors(t)}
	for _, l := range languages() {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			l.available(t)
			command := l.command(t, t.TempDir())
			for _, form := range l.forms {
				t.Run(form, func(t *testing.T) {
					t.Parallel()
					vectors[form].run(t, append(slices.Clone(command), form))
				})
			}
		})
	}
}

// available skips a language that is not on the machine, unless this is CI, which must have it.
func (l language) available(t *testing.T) {
	t.Helper()
	for _, program := range l.needs {
		if _, err := exec.LookPath(program); err == nil {
			continue
		}
		if l.required && os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed, and CI must run the snippet in %s", program, l.name)
		}
		t.Skipf("NOT RUN: the snippet in %s, because %s is not installed", l.name, program)
	}
}

// A vector is a recorded request with what a receiver must say of it.
type vector struct {
	name    string
	request recorded
	want    string // a reason, or empty: genuine
}

// batch is the vectors of one form, which have keys in common.
type batch struct {
	keys, origin string
	vectors      []vector
}

// run gives all requests to one process and compares what it says of each.
func (b batch) run(t *testing.T, command []string) {
	t.Helper()
	dir := t.TempDir()
	for i, v := range b.vectors {
		file := filepath.Join(dir, fmt.Sprintf("%03d", i))
		require.NoError(t, os.WriteFile(file, v.request.bytes(), 0o600))
		command = append(command, file)
	}
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "WEBHOOK_KEYS="+b.keys, "WEBHOOK_ORIGIN="+b.origin, fmt.Sprintf("WEBHOOK_NOW=%d", now.Unix()))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	exit, ok := errors.AsType[*exec.ExitError](err)
	require.True(t, ok, "some are refused, so the command must fail: %v", err)
	require.Equal(t, 1, exit.ExitCode(), stderr.String())
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	require.Len(t, lines, len(b.vectors), stderr.String())
	for i, v := range b.vectors {
		_, said, _ := strings.Cut(lines[i], ": ")
		want := "genuine"
		if v.want != "" {
			want = "refused: " + v.want
		}
		require.Equal(t, want, said, v.name)
	}
	require.Empty(t, stderr.String())
}

// A snippet alone decides, so one that says yes to all must not pass: the batches hold both.
func TestTheVectorsAreGoodAndBad(t *testing.T) {
	t.Parallel()
	for _, b := range []batch{standardVectors(t), jewelVectors(t), messageVectors(t)} {
		good := 0
		for _, v := range b.vectors {
			if v.want == "" {
				good++
			}
		}
		require.Greater(t, good, 5)
		require.Greater(t, len(b.vectors)-good, 5)
	}
}

func TestTheShellSnippetRefusesOtherForms(t *testing.T) {
	t.Parallel()
	err := exec.CommandContext(t.Context(), "bash", snippets+"/verify.sh", "header", "x").Run()
	exit, ok := errors.AsType[*exec.ExitError](err)
	require.True(t, ok)
	require.Equal(t, 2, exit.ExitCode())
}
