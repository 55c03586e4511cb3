package cli

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/fixture/receivertest"
)

// completes is what a shell would offer for the last word.
func (s *shell) completes(t *testing.T, words ...string) []string {
	t.Helper()
	out := s.ok(t, append([]string{"__complete"}, words...)...)
	list, _, found := strings.Cut(out, "\n:")
	if !found {
		return nil
	}
	return strings.Split(list, "\n")
}

func TestAShellCompletesWhatIsThere(t *testing.T) {
	t.Parallel()
	s := running(t)
	s.ok(t, "event-types", "create", "order.paid", "--description", "An order was\npaid")
	s.ok(t, "event-types", "create", "release.live")
	w := s.webhook(t, receivertest.New(t).Respond(500).URL, "--events", "*", "--name", "shop", "--retry-delays", "none")
	key := s.json(t, "keys", "create", "service", "--scope", "publish")["api_key"].(map[string]any)["id"].(string)
	s.ok(t, "publish", "order.paid")
	s.await(t, "dead", "deliveries", "list")
	d := list(t, s.json(t, "deliveries", "list"), "deliveries")[0]
	delivery, event := d["id"].(string), d["event_id"].(string)

	for _, c := range []struct {
		want  string
		words []string
	}{
		{w + "\tshop", []string{"webhooks", "get", ""}},
		{w + "\tshop", []string{"deliveries", "list", "--webhook", "wh_"}},
		{key + "\tservice", []string{"keys", "delete", ""}},
		{s.env["POSTRIDER_ACCOUNT"] + "\t" + t.Name(), []string{"accounts", "get", ""}},
		{s.env["POSTRIDER_ACCOUNT"] + "\t" + t.Name(), []string{"webhooks", "list", "--account", ""}},
		{"order.paid\tAn order was paid", []string{"publish", "or"}},
		{"release.live", []string{"event-types", "delete", "rel"}},
		{"a.b,release.live", []string{"webhooks", "create", "https://example.com", "--events", "a.b,rel"}},
	} {
		require.Equal(t, []string{c.want}, s.completes(t, c.words...), "%v", c.words)
	}
	for _, words := range [][]string{{"deliveries", "show", "dlv_"}, {"deliveries", "cancel", "dlv_"}, {"dead-letters", "redrive", ""}, {"dead-letters", "show", ""}} {
		offered := s.completes(t, words...)
		require.Len(t, offered, 1, "%v", words)
		require.Contains(t, offered[0], delivery+"\t", "%v", words)
	}
	require.Contains(t, s.completes(t, "deliveries", "replay", "")[0], event+"\torder.paid ")
	require.Contains(t, s.completes(t, "deliveries", "cancel", "wh_")[0], w, "one argument of several kinds")

	require.Empty(t, s.completes(t, "webhooks", "get", w, ""), "there is no second argument")
	require.Empty(t, s.completes(t, "dead-letters", "redrive", delivery, ""), "it is named already")
	require.Empty(t, s.with("POSTRIDER_KEY", "nonsense").completes(t, "webhooks", "get", ""), "nobody to tell what is wrong")
	require.Empty(t, s.with("POSTRIDER_SERVER", "127.0.0.1:1").completes(t, "webhooks", "get", ""))
}

func TestAShellCompletesWordsFilesAndFolders(t *testing.T) {
	t.Parallel()
	s := &shell{}
	require.Equal(t, []string{"delivered", "dead"}, s.completes(t, "deliveries", "list", "--state", "de"))
	require.Equal(t, []string{"publish,read"}, s.completes(t, "keys", "create", "x", "--scope", "publish,re"))
	require.Contains(t, s.ok(t, "__complete", "restore", ""), ":16\n", "folders")
	require.Contains(t, s.ok(t, "__complete", "event-types", "import", ""), ":0\n", "files")
	require.Contains(t, s.ok(t, "__complete", "publish", "--file", ""), ":0\n", "files")
	require.Contains(t, s.ok(t, "__complete", "deliveries", "list", "--since", ""), ":4\n", "no files where none are meant")
}

// What the tables of completions name must be there, or they say nothing.
func TestEveryCompletionIsOfSomething(t *testing.T) {
	t.Parallel()
	p := &program{lookup: func(string) (string, bool) { return "", false }}
	flags, arguments := map[string]bool{}, map[string]bool{}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) { flags[f.Name] = true })
		for word := range strings.FieldsFuncSeq(c.Use, func(r rune) bool { return strings.ContainsRune(" |[].", r) }) {
			arguments[word] = true
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(p.root())
	for name := range flagOffers {
		require.True(t, flags[name], "--%s", name)
	}
	for name := range flagWords {
		require.True(t, flags[name], "--%s", name)
	}
	for _, name := range append(folderFlags, fileFlags...) {
		require.True(t, flags[name], "--%s", name)
	}
	for name := range argumentOffers {
		require.True(t, arguments[name], name)
	}
}

// The scripts are taken by the shells that are here.
func TestTheCompletionScriptsAreWhatShellsTake(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"bash", "zsh", "fish"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Logf("no %s here", name)
			continue
		}
		check := exec.CommandContext(t.Context(), path, "-n", "/dev/stdin")
		check.Stdin = strings.NewReader((&shell{}).ok(t, "completion", name))
		out, err := check.CombinedOutput()
		require.NoError(t, err, "%s: %s", name, out)
	}
}
