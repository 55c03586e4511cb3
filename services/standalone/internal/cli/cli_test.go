package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/seal"
	"github.com/postrider/postrider/services/standalone"
)

func TestUpRunsEverythingAndTheOtherCommandsFindIt(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "var")
	s := &shell{env: map[string]string{"POSTRIDER_DATA_DIR": dir, "POSTRIDER_METRICS_LISTEN": "127.0.0.1:0"}}
	up := s.background(t, "up", "--grpc-listen", "127.0.0.1:0", "--http-listen=127.0.0.1:0", "--telemetry-log-level", "warn")
	up.await(t, "In another shell")
	out := up.out.String()
	row := func(name string) string {
		m := regexp.MustCompile(`(?m)^  ` + name + ` +(\S+)$`).FindStringSubmatch(out)
		require.NotNil(t, m, "%s in %s", name, out)
		return m[1]
	}
	key, err := os.ReadFile(filepath.Join(dir, standalone.AdminKeyFile))
	require.NoError(t, err)
	require.Equal(t, strings.TrimSpace(string(key)), row("admin key"))
	require.Regexp(t, `^http://127.0.0.1:\d+$`, row("HTTP"))
	require.Regexp(t, `^http://127.0.0.1:\d+/metrics$`, row("metrics"))
	require.Contains(t, out, "127.0.0.0/8 and ::1/128", "what a deployment refuses is said")
	require.Contains(t, out, "kept in "+filepath.Join(dir, standalone.AdminKeyFile))

	s.ok(t, "accounts", "create", "found by the kept key", "--server", row("gRPC"))
	second := s.run(t, "up", "--grpc-listen", "127.0.0.1:0", "--http-listen=127.0.0.1:0")
	require.Equal(t, exitFailure, second.code)
	require.Contains(t, second.err, "is in use by process")
	up.cancel()
	require.Equal(t, exitOK, up.end(t).code)
}

func TestUpTellsEveryFaultOfItsOptions(t *testing.T) {
	t.Parallel()
	s := &shell{}
	r := s.fails(t, exitUsage, "--no-such-thing", "up", "--no-such-thing", "--streams-replicas", "3", "--data-dir", "")
	require.Contains(t, r.err, "streams-replicas")
	require.Contains(t, r.err, "data-dir")
	help := s.ok(t, "up", "--help")
	require.Contains(t, help, "Run everything in one process")
	require.Contains(t, help, "POSTRIDER_DATA_DIR")
	require.Equal(t, help, s.ok(t, "help", "up"))
	require.Contains(t, s.ok(t, "__complete", "up", "--data"), "--data-dir\tfolder")
}

func TestExitCodesMeanSomething(t *testing.T) {
	t.Parallel()
	s := &shell{env: map[string]string{"POSTRIDER_SERVER": "127.0.0.1:1"}}
	s.fails(t, exitUsage, `unknown command "bogus"`, "bogus")
	s.fails(t, exitUsage, "unknown flag", "accounts", "list", "--bogus")
	s.fails(t, exitUsage, "--output must be table or json", "accounts", "list", "-o", "xml")
	s.fails(t, exitUsage, "--timeout must be positive", "accounts", "list", "--timeout", "0s")
	s.fails(t, exitUsage, "--key: open", "accounts", "list", "--key", "file:/nowhere")
	s.fails(t, exitUsage, "tls-key-file", "accounts", "list", "--tls-cert-file", "x")
	s.fails(t, exitUnavailable, "is 127.0.0.1:1 the right server", "accounts", "list")

	live := running(t)
	live.with("POSTRIDER_DATA_DIR", t.TempDir()).fails(t, exitRefused, "give a credential with POSTRIDER_KEY", "accounts", "list")
	live.with("POSTRIDER_KEY", "nonsense").fails(t, exitRefused, "KEY_INVALID", "accounts", "list")
	live.with("POSTRIDER_ACCOUNT", "").fails(t, exitRefused, "name the account with --account", "webhooks", "list")
	live.with("POSTRIDER_ACCOUNT", "acc_01HF7YAT00ZZZZZZZZZZZZZZZZ").fails(t, exitNotFound, "acc_01HF7YAT00ZZZZZZZZZZZZZZZZ", "webhooks", "create", "http://127.0.0.1:1/", "--events", "*")
	live.fails(t, exitUnavailable, "", "publish", "a.b", "--ingest-server", "127.0.0.1:1")
}

func TestTheKeptAdminKeyGoesToThisMachineAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, standalone.AdminKeyFile), []byte("kept\n"), 0o600))
	lookup := func(name string) (string, bool) { return dir, name == "POSTRIDER_DATA_DIR" }
	for name, test := range map[string]struct{ server, ingest, want string }{
		"loopback":                    {"127.0.0.1:9090", "", "kept"},
		"localhost":                   {"localhost:9090", "", "kept"},
		"IPv6 loopback":               {"[::1]:9090", "dns:///localhost:9091", "kept"},
		"another machine":             {"postrider.example.com:9090", "", ""},
		"another machine for events":  {"127.0.0.1:9090", "10.0.0.1:9090", ""},
		"a list of several addresses": {"static:///127.0.0.1:1,10.0.0.1:1", "", ""},
		"a name like localhost":       {"localhost.example.com:9090", "", ""},
	} {
		p := &program{lookup: lookup, globals: globals{server: test.server, ingestServer: test.ingest}}
		key, err := p.credential()
		require.NoError(t, err, name)
		require.Equal(t, test.want, key, name)
	}
}

func TestAKeysetIsMadeAndRotated(t *testing.T) {
	t.Parallel()
	s := &shell{}
	file := filepath.Join(t.TempDir(), "encryption.key")
	s.ok(t, "encryption-key", "generate", "--out", file)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	s.fails(t, exitUsage, "exists", "encryption-key", "generate", "--out", file)
	before := parseKeyset(t, readText(t, file))
	sealed, err := before.Seal([]byte("x"), nil)
	require.NoError(t, err)

	printed := parseKeyset(t, s.ok(t, "encryption-key", "rotate", file))
	require.False(t, printed.Current(sealed))
	require.Empty(t, s.ok(t, "encryption-key", "rotate", file, "--write"))
	after := parseKeyset(t, readText(t, file))
	plain, err := after.Open(sealed, nil)
	require.NoError(t, err, "old keys still open")
	require.Equal(t, "x", string(plain))
	require.False(t, after.Current(sealed))

	added := s.ok(t, "encryption-key", "rotate", file, "--step", "add")
	promoted := s.reading(added).ok(t, "encryption-key", "rotate", "-", "--step", "promote")
	pruned := s.reading(promoted).ok(t, "encryption-key", "rotate", "-", "--step", "prune")
	_, err = parseKeyset(t, pruned).Open(sealed, nil)
	require.Error(t, err)

	require.NotEqual(t, readText(t, file), s.ok(t, "encryption-key", "generate"))
	s.fails(t, exitUsage, "--step must be", "encryption-key", "rotate", file, "--step", "back")
	s.fails(t, exitUsage, "--write needs a file", "encryption-key", "rotate", "-", "--write")
	s.reading("nonsense").fails(t, exitFailure, "", "encryption-key", "rotate", "-")
}

func parseKeyset(t *testing.T, text string) *seal.Sealer {
	t.Helper()
	sealer, err := seal.Parse(strings.TrimSpace(text))
	require.NoError(t, err)
	return sealer
}

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

func TestVersionAndCompletionAreThere(t *testing.T) {
	t.Parallel()
	s := &shell{}
	require.Regexp(t, `^postrider \S+ \(go`, s.ok(t, "version"))
	require.NotEmpty(t, s.json(t, "version")["version"])
	for _, name := range []string{"bash", "zsh", "fish", "powershell"} {
		require.Contains(t, s.ok(t, "completion", name), "postrider")
	}
	require.Contains(t, s.ok(t, "__complete", "webhooks", "rot"), "rotate-secret")
	require.Contains(t, s.ok(t, "__complete", "accounts", "list", "-o", ""), "json")
}

// What the help shows must work: every command says what it is for, and every example is one that
// the program takes.
func TestEveryCommandHasHelpAndItsExamplesParse(t *testing.T) {
	t.Parallel()
	p := &program{lookup: func(string) (string, bool) { return "", false }}
	root := p.root()
	examples := 0
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		require.NotEmpty(t, c.Short, c.CommandPath())
		require.False(t, strings.HasSuffix(c.Short, "."), c.CommandPath())
		if !c.HasSubCommands() && c.Name() != "version" && c.Name() != "help" {
			require.NotEmpty(t, c.Example, c.CommandPath())
		}
		for _, args := range commandLines(t, c.Example) {
			checkExample(t, args)
			examples++
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	for _, args := range commandLines(t, root.Long) {
		checkExample(t, args)
		examples++
	}
	require.Greater(t, examples, 40)
}

// commandLines are the calls of the program in a text that would do in a shell.
func commandLines(t *testing.T, text string) [][]string {
	t.Helper()
	text = strings.ReplaceAll(text, "\\\n", " ")
	var out [][]string
	for line := range strings.Lines(text) {
		_, call, ok := strings.Cut(line, "postrider ")
		if !ok || !strings.HasPrefix(line, "  ") {
			continue
		}
		call, _, _ = strings.Cut(call, `)"`) // the end of $(...)
		args := shellWords(call)
		if end := slices.IndexFunc(args, func(w string) bool { return w == "|" || w == ">" || w == "#" }); end >= 0 {
			args = args[:end]
		}
		out = append(out, args)
	}
	return out
}

// shellWords splits a line as a shell does: at spaces that are not between quotes.
func shellWords(line string) []string {
	var out []string
	var word strings.Builder
	var quote rune
	open := false // whether a word has begun, which may be empty
	for _, r := range strings.TrimSpace(line) + " " {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote, open = r, true
		case quote == 0 && r == ' ':
			if open {
				out = append(out, word.String())
			}
			word.Reset()
			open = false
		default:
			word.WriteRune(r)
			open = true
		}
	}
	return out
}

func checkExample(t *testing.T, args []string) {
	t.Helper()
	p := &program{lookup: func(string) (string, bool) { return "", false }}
	c, rest, err := p.root().Find(args)
	require.NoError(t, err, args)
	require.NotEqual(t, "postrider", c.Name(), args)
	if c.Name() == "up" {
		cfg := standalone.Default()
		require.NoError(t, conf.Load(upName, &cfg, rest, p.lookup, os.Stderr), args)
		return
	}
	require.NoError(t, c.ParseFlags(rest), args)
	require.NoError(t, c.ValidateArgs(c.Flags().Args()), args)
	require.NoError(t, c.ValidateRequiredFlags(), args)
	require.NoError(t, c.ValidateFlagGroups(), args)
}

func TestWhatIsPrintedCannotDriveATerminal(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a b c�[2J�d", printable("a\tb\nc\x1b[2J\rd"))
	require.Equal(t, "Grüße 你好", printable("Grüße 你好"))
}
