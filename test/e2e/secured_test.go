//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
	"github.com/postrider/postrider/test/system"
)

// refusals are what stores and services write of a user who was refused something.
var refusals = regexp.MustCompile(`(?i).*(permissions? violation|publish violation|subscription violation|authorization violation|NOPERM|NOAUTH|WRONGPASS).*`)

// The scenarios of the pipeline, and what an operator does, need nothing that the users of
// deploy/nats and deploy/redis may not do: nobody is refused anything on the way.
func TestPipelineWithLeastPrivilege(t *testing.T) {
	secured := system.StartSecuredCluster(t)
	c, s := secured.Cluster, secured.System
	t.Run("scenarios", func(t *testing.T) { system.Run(t, s, pipeline()) })
	t.Run("without a scheduler the dispatcher stores retries itself", func(t *testing.T) {
		a := s.NewAccount(t)
		r := receivertest.New(t).Respond(500, 200)
		hook := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"*"}, Profile: "jewelmusic"})
		for _, p := range c.Of("scheduler") {
			p.Kill()
		}
		receipt := a.Publish(t, "release.live", album)
		r.Next(t)
		for _, p := range c.Of("scheduler") {
			require.NoError(t, p.Start())
			require.NoError(t, p.WaitReady(t.Context()))
		}
		r.Next(t)
		a.AwaitDelivery(t, receipt.GetEventId(), hook.GetWebhook().GetId(), delivered)
	})
	t.Run("redrive, replay, retry by hand and reconcile", func(t *testing.T) {
		a := s.NewAccount(t)
		r := receivertest.New(t).Respond(500)
		hook := a.Webhook(t, &postriderv1.Webhook{Url: r.URL, EventTypes: []string{"*"}, Profile: "jewelmusic"}).GetWebhook()
		receipt := a.Publish(t, "release.live", album)
		d := a.AwaitDelivery(t, receipt.GetEventId(), hook.GetId(), dead)
		run := func(args ...string) {
			t.Helper()
			cmd := exec.CommandContext(t.Context(), "../../bin/postrider", args...)
			cmd.Env = append(os.Environ(), "POSTRIDER_SERVER="+c.APITarget(), "POSTRIDER_KEY="+c.AdminKey, "POSTRIDER_ACCOUNT="+a.ID)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, string(out))
		}
		run("dead-letters", "redrive", "--all", "--wait")
		a.AwaitDelivery(t, receipt.GetEventId(), hook.GetId(), dead)
		r.Respond(200)
		run("deliveries", "retry", d.GetId())
		a.AwaitDelivery(t, receipt.GetEventId(), hook.GetId(), delivered)
		run("deliveries", "replay", receipt.GetEventId())
		r.Next(t)
		run("ledger")
		run("reconcile")
	})
	for _, p := range c.Processes() {
		log, err := os.ReadFile(p.LogFile())
		require.NoError(t, err)
		require.Empty(t, refusals.FindAllString(string(log), 20), p.Name)
	}
	t.Run("what is not theirs is refused", func(t *testing.T) { refused(t, secured) })
}

// refused shows that the permissions bite, each with something that would do harm.
func refused(t *testing.T, s *system.Secured) {
	t.Helper()
	for service, subjects := range map[string][]string{
		"ingest":     {"deliveries.0.acc_1.wh_1", "journal.0", "$KV.webhooks.a.b", "$JS.API.STREAM.DELETE.EVENTS", "$JS.API.STREAM.PURGE.EVENTS", "$JS.API.STREAM.PURGE.EVENTS_1"},
		"router":     {"events.acc_1.a", "events_1.acc_1.a", "$KV.keys.a", "$JS.API.STREAM.MSG.GET.KV_keys", "$JS.API.STREAM.DELETE.JOURNAL"},
		"dispatcher": {"events.acc_1.a", "$KV.webhooks.a.b", "$JS.API.STREAM.MSG.GET.KV_keys", "$JS.API.STREAM.PURGE.RETRIES_0"},
		"scheduler":  {"events.acc_1.a", "deliveries.0.acc_1.wh_1", "$KV.accounts.a", "$JS.API.STREAM.PURGE.JOURNAL", "$JS.API.CONSUMER.DELETE.EVENTS.router"},
		"api":        {"retries.0.a.b.c", "$JS.API.STREAM.DELETE.DEADLETTERS", "$JS.API.STREAM.PURGE.EVENTS", "$JS.API.STREAM.UPDATE.RETRIES_0"},
	} {
		nc := s.NATS(t, service)
		for _, subject := range subjects {
			require.NoError(t, nc.Publish(subject, nil))
			require.NoError(t, nc.FlushTimeout(5*time.Second))
			require.ErrorContains(t, nc.LastError(), `"`+subject+`"`, "%s may publish to %s", service, subject)
		}
		sub, err := nc.SubscribeSync("_INBOX.other.>")
		require.NoError(t, err)
		require.NoError(t, nc.FlushTimeout(5*time.Second))
		require.ErrorContains(t, nc.LastError(), "_INBOX.other.>")
		_ = sub.Unsubscribe()
	}
	scheduler := s.Redis(t, "scheduler")
	for _, command := range [][]any{
		{"GET", "postrider:dedup:{x}"}, {"FLUSHALL"}, {"CONFIG", "GET", "maxmemory"}, {"KEYS", "*"},
	} {
		require.ErrorContains(t, scheduler.Do(t.Context(), command...).Err(), "NOPERM", "%v", command)
	}
}
