package cli

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/fixture/natstest"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

// rawOutput are the commands whose output is no message: a key, a script, or what a process says.
var rawOutput = []string{
	"postrider encryption-key generate", "postrider encryption-key rotate", "postrider up", "postrider help",
	"postrider completion bash", "postrider completion zsh", "postrider completion fish", "postrider completion powershell",
}

// TestEveryCommandPrintsJSON runs each command with -o json: programs read what it prints. A command
// that is added must be added here.
func TestEveryCommandPrintsJSON(t *testing.T) {
	t.Parallel()
	s := running(t)
	receiver := receivertest.New(t).Respond(200)
	w := s.webhook(t, receiver.URL, "--events", "order.*")
	dead := s.webhook(t, receivertest.New(t).Respond(500).URL, "--events", "order.*", "--retry-delays", "none")
	labels := s.webhook(t, receivertest.New(t).Respond(200).URL, "--events", "*", "--profile", "labelst")
	consents := s.webhook(t, receivertest.New(t).Respond(200).URL, "--events", "none.*", "--profile", "cloudevents", "--options", `{"handshake":"off"}`)
	event := s.json(t, "publish", "order.paid", "--data", "{}")["event_id"].(string)
	delivery := s.only(t, w, "delivered")
	letter := s.only(t, dead, "dead")
	key := s.json(t, "keys", "create", "k", "--scope", "read")["api_key"].(map[string]any)["id"].(string)
	full, empty := natstest.Start(t), natstest.Start(t)
	events(t, full)
	split(t, full, 1)
	dir := filepath.Join(t.TempDir(), "backup")
	catalogue := filepath.Join(t.TempDir(), "catalogue.json")
	write(t, catalogue, `{"event_types":[{"name":"order.paid"}]}`)
	lines := filepath.Join(t.TempDir(), "events.jsonl")
	write(t, lines, `{"type":"other.thing"}`)

	ran := map[string]bool{}
	try := func(codes []int, args ...string) {
		t.Helper()
		c, _, err := (&program{lookup: func(string) (string, bool) { return "", false }}).root().Find(args)
		require.NoError(t, err)
		ran[c.CommandPath()] = true
		r := s.run(t, append(args, "-o", "json")...)
		require.Contains(t, codes, r.code, "%v: %s%s", args, r.out, r.err)
		var list []map[string]any
		for dec := json.NewDecoder(strings.NewReader(r.out)); ; {
			var v map[string]any
			err := dec.Decode(&v)
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, "%v: %s", args, r.out)
			list = append(list, v)
		}
		require.NotEmpty(t, list, "%v prints nothing", args)
	}
	ok := []int{exitOK}
	for _, args := range [][]string{
		{"version"},
		{"accounts", "create", "another"},
		{"accounts", "list"},
		{"accounts", "get"},
		{"accounts", "update", "--name", "x"},
		{"event-types", "import", catalogue},
		{"event-types", "create", "a.b"},
		{"event-types", "update", "a.b", "--description", "x"},
		{"event-types", "show", "a.b"},
		{"event-types", "list"},
		{"event-types", "delete", "a.b"},
		{"keys", "list"},
		{"keys", "update", key, "--name", "x"},
		{"keys", "create", "y", "--scope", "read"},
		{"keys", "delete", key},
		{"webhooks", "create", receiver.URL, "--events", "none.*"},
		{"webhooks", "list"},
		{"webhooks", "get", w},
		{"webhooks", "update", w, "--name", "x"},
		{"webhooks", "secrets", w},
		{"webhooks", "backlog", w},
		{"webhooks", "health", w},
		{"webhooks", "explain", "order.paid"},
		{"webhooks", "rotate-secret", w},
		{"webhooks", "test", w},
		{"webhooks", "pause", w},
		{"webhooks", "resume", w},
		{"publish", "--file", lines},
		{"events", "list"},
		{"activity"},
		{"audit"},
		{"portal-link"},
		{"deliveries", "list"},
		{"deliveries", "show", event},
		{"deliveries", "find", event},
		{"deliveries", "attempts", delivery},
		{"deliveries", "tail", "--since", "-1h", "--count", "1"},
		{"deliveries", "cancel", w},
		{"deliveries", "replay", event, "--wait"},
		{"dead-letters", "list"},
		{"dead-letters", "show", letter},
		{"dead-letters", "summary"},
		{"dead-letters", "redrive", letter, "--dry-run"},
		{"replays", "list"},
		{"bench", "load", "--duration", "50ms", "--type", "none.bench"},
		{"ledger"},
		{"ledger", "--all"},
		{"recorder", "status"},
		{"recorder", "rebuild", "--wait"},
		{"reconcile"},
		{"backup", dir, "--nats-url", full.URL},
		{"restore", dir, "--nats-url", empty.URL},
		{"shards", "--nats-url", full.URL},
		{"shards", "set", "1", "--nats-url", full.URL},
		{"webhooks", "delete", consents},
	} {
		try(ok, args...)
	}
	replay := list(t, s.json(t, "replays", "list"), "replays")[0]["id"].(string)
	try(ok, "replays", "show", replay)
	try(ok, "replays", "abort", replay)
	either := []int{exitOK, exitFailure}
	try(either, "doctor")
	try(either, "webhooks", "verify", labels)
	try(either, "deliveries", "retry", letter)

	var missing []string
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if !c.HasSubCommands() && !ran[c.CommandPath()] && !strings.Contains(strings.Join(rawOutput, "\n")+"\n", c.CommandPath()+"\n") {
			missing = append(missing, c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk((&program{lookup: func(string) (string, bool) { return "", false }}).root())
	require.ElementsMatch(t, []string{
		"postrider bench receiver",     // TestAReceiverBehavesAsToldAndCounts
		"postrider listen",             // TestListen...
		"postrider webhooks handshake", // TestReceiversAreAskedForTheirVerdictAndConsent
		"postrider deliveries expunge", // two minutes after the last attempt
	}, missing)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}
