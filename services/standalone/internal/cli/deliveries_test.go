package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/fixture/receivertest"
)

// await waits until a command prints the words.
func (s *shell) await(t *testing.T, words string, args ...string) string {
	t.Helper()
	var last string
	require.Eventually(t, func() bool {
		last = s.run(t, args...).out
		return strings.Contains(last, words)
	}, patience, 5*time.Millisecond, "want %q, got %s", words, &last)
	return last
}

// only is the id of the one delivery of a webhook.
func (s *shell) only(t *testing.T, webhook, state string) string {
	t.Helper()
	s.await(t, state, "deliveries", "list", "--webhook", webhook)
	items := list(t, s.json(t, "deliveries", "list", "--webhook", webhook), "deliveries")
	require.Len(t, items, 1)
	return items[0]["id"].(string)
}

func (s *shell) webhook(t *testing.T, args ...string) string {
	t.Helper()
	return s.json(t, append([]string{"webhooks", "create"}, args...)...)["webhook"].(map[string]any)["id"].(string)
}

func TestADeliveryIsListedShownRetriedAndCancelled(t *testing.T) {
	t.Parallel()
	s := running(t)
	r := receivertest.New(t).Answer(receivertest.Body(500, "no\x1b[2J\nluck"), receivertest.Status(503), receivertest.Status(200))
	w := s.webhook(t, r.URL, "--events", "*", "--retry-delays", "1h,1h,1h")
	s.ok(t, "publish", "order.paid")
	id := s.only(t, w, "waiting")

	require.Regexp(t, `(?m)^`+id+` +waiting +1 +500 +order.paid +evt_\w+ +`+w, s.ok(t, "deliveries", "list", "--state", "waiting", "--type", "order.paid", "--since", "-1h"))
	require.NotContains(t, s.ok(t, "deliveries", "list", "--state", "dead"), id)
	require.NotContains(t, s.ok(t, "deliveries", "list", "--until", "-1h"), id)
	out := s.ok(t, "deliveries", "show", id)
	require.Regexp(t, `(?m)^state +waiting$`, out)
	require.Regexp(t, `(?m)^next attempt +\d{4}-`, out)
	require.Regexp(t, `(?m)^ +\+\d+\.\d{3}s +attempt 1: retryable 500 http_status \(Internal Server Error\) in `, out)
	require.Regexp(t, `(?m)^ +connect \S+s, first byte \S+s$`, out)
	require.Regexp(t, `(?m)^ +> Webhook-Signature: \*\*\*$`, out, "masked")
	require.NotContains(t, out, "luck")
	out = s.ok(t, "deliveries", "show", "--reveal", id)
	require.Regexp(t, `(?m)^ +> Webhook-Signature: v1,`, out)
	require.Regexp(t, `(?m)^ +< no.*luck`, out)
	require.NotContains(t, out, "\x1b", "a receiver does not drive the terminal")
	reader := s.with("POSTRIDER_KEY", s.json(t, "keys", "create", "--scope", "read")["secret"].(string))
	reader.fails(t, exitRefused, "payloads", "deliveries", "show", "--reveal", id)
	require.Contains(t, reader.ok(t, "deliveries", "attempts", id, "-o", "json"), `"masked": true`)
	require.NotContains(t, reader.ok(t, "deliveries", "attempts", id), "luck")
	event := s.json(t, "deliveries", "show", id)["event"].(map[string]any)["id"].(string)
	require.Contains(t, s.ok(t, "deliveries", "show", event), id)
	require.Regexp(t, `(?m)^delivery +.* +`+event+` +`+id, s.ok(t, "deliveries", "find", id))
	require.Regexp(t, `(?m)^store +sqlite$`, s.ok(t, "recorder", "status"))
	out = s.ok(t, "deliveries", "attempts", id)
	require.Regexp(t, `(?m)^1 +retryable +500 +http_status +\S+ +\S+s +\S+ +\S+ +no`, out)
	require.NotContains(t, out, "\x1b", "a receiver does not drive the terminal")

	failed := s.run(t, "deliveries", "retry", id)
	require.Equal(t, exitFailure, failed.code)
	require.Regexp(t, `(?m)^status +503$`, failed.out)
	s.await(t, "503", "deliveries", "attempts", id)
	require.Regexp(t, `(?m)^state +waiting$`, s.ok(t, "deliveries", "show", id), "a failure leaves the schedule as it was")
	s.await(t, "cancelled "+id, "deliveries", "cancel", id) // the log says that it waits a moment before it does
	s.await(t, "cancelled", "deliveries", "show", id)
	require.Len(t, list(t, s.json(t, "deliveries", "attempts", id), "attempts"), 2)

	s.fails(t, exitNotFound, "NOT_FOUND", "deliveries", "show", "dlv_aaaaaaaaaaaaaaaaaaaaaaaaaa")
	s.fails(t, exitUsage, "--state must be pending, waiting", "deliveries", "list", "--state", "lost")
	s.fails(t, exitUsage, "--since", "deliveries", "list", "--since", "yesterday")
	s.fails(t, exitUsage, "--limit", "deliveries", "list", "--limit", "-1")
}

func TestDeadLettersAreListedAndShownWithTheirData(t *testing.T) {
	t.Parallel()
	s := running(t)
	r := receivertest.New(t).Respond(500)
	w := s.webhook(t, r.URL, "--events", "*", "--retry-delays", "none")
	s.ok(t, "publish", "order.paid", "--data", `{"total":  120}`)
	id := s.only(t, w, "dead")

	require.Regexp(t, `(?m)^`+id+` +exhausted +1 +500 +order.paid +evt_\w+ +`+w, s.await(t, id, "dead-letters", "list", "--webhook", w))
	require.Contains(t, s.ok(t, "dead-letters", "list", "--cause", "exhausted", "--type", "order.paid"), id)
	require.NotContains(t, s.ok(t, "dead-letters", "list", "--cause", "permanent"), id)
	require.Regexp(t, `(?m)^cause +exhausted$`, s.ok(t, "dead-letters", "show", id))
	require.Equal(t, `{"total":  120}`, s.ok(t, "dead-letters", "show", id, "--data"))
	s.fails(t, exitNotFound, "no dead letter", "dead-letters", "show", "dlv_aaaaaaaaaaaaaaaaaaaaaaaaaa")

	require.Regexp(t, `(?m)^1 +exhausted +order.paid +`+w, s.ok(t, "dead-letters", "summary", "--webhook", w))
	require.Regexp(t, `(?m)^deliveries +1$`, s.ok(t, "dead-letters", "redrive", "--webhook", w, "--dry-run"))
	s.fails(t, exitUsage, "--all", "dead-letters", "redrive")
	r.Respond(200)
	require.Regexp(t, `(?m)^state +succeeded$`, s.ok(t, "dead-letters", "redrive", id, "--wait"))
	s.await(t, "delivered", "deliveries", "show", id)
	require.Regexp(t, `(?m)^redriven +1$`, s.ok(t, "deliveries", "show", id))

	event := list(t, s.json(t, "deliveries", "list", "--webhook", w), "deliveries")[0]["event_id"].(string)
	require.Regexp(t, `(?m)^deliveries +1$`, s.ok(t, "deliveries", "replay", "--since", "-1h", "--webhook", w, "--dry-run"))
	require.Regexp(t, `(?m)^deliveries +1$`, s.ok(t, "deliveries", "replay", event, "--webhook", w, "--wait"))
	s.fails(t, exitUsage, "--since", "deliveries", "replay")
	jobs := s.ok(t, "replays", "list")
	require.Regexp(t, `(?m)^rpl_\w+ +redrive +succeeded +1 +0 +100 `, jobs)
	job := strings.Fields(strings.Split(jobs, "\n")[1])[0]
	require.Regexp(t, `(?m)^kind +replay$`, s.ok(t, "replays", "show", job))
	require.Regexp(t, `(?m)^state +succeeded$`, s.ok(t, "replays", "abort", job), "it has ended")
	require.Contains(t, s.ok(t, "deliveries", "cancel", event), "0 removed")
	require.Contains(t, s.ok(t, "deliveries", "cancel", w), "0 removed")
}

func TestTailShowsEachChangeOnce(t *testing.T) {
	t.Parallel()
	s := running(t)
	r := receivertest.New(t).Respond(500, 200)
	w := s.webhook(t, r.URL, "--events", "*", "--retry-delays", "1h")
	tail := s.background(t, "deliveries", "tail", "--webhook", w, "--interval", "10ms", "-o", "json")
	tail.await(t, "following")
	s.ok(t, "publish", "order.paid")
	id := s.only(t, w, "waiting")
	tail.await(t, "DELIVERY_STATE_WAITING")
	require.Regexp(t, `(?m)^outcome +succeeded$`, s.ok(t, "deliveries", "retry", id))
	tail.await(t, "DELIVERY_STATE_DELIVERED")
	tail.cancel()
	end := tail.end(t)
	require.Equal(t, exitOK, end.code, end.err)
	seen := map[string]bool{}
	for line := range strings.Lines(end.out) {
		require.True(t, json.Valid([]byte(line)))
		require.False(t, seen[line], "twice: %s", line)
		seen[line] = true
	}

	out := s.ok(t, "deliveries", "tail", "--since", "-1h", "--count", "1")
	require.Regexp(t, `(?m)^\S+ +delivered +1 +200 +order.paid +`+id, out)
	s.fails(t, exitUsage, "--interval", "deliveries", "tail", "--interval", "0s")
}
