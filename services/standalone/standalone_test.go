package standalone_test

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	pkgconfig "github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/signature"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/standalone"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

func TestAnEventReachesItsWebhookAndAllIsThereAfterARestart(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir())
	svc, stop := start(t, cfg)
	require.NoError(t, svc.Ready())
	r := receivertest.New(t)
	u := admin(t, svc).newAccount(t)
	hook := u.webhook(t, r.URL+"/hook")

	receipt := u.publish(t, "once", `{"total": 120}`)
	got := r.Next(t)
	require.JSONEq(t, `{"total": 120}`, string(got.Body))
	require.Equal(t, receipt.GetEventId(), got.Header.Get("webhook-id"))
	secret, err := signature.ParseSecret(hook.GetSecret(), signature.KindHMAC)
	require.NoError(t, err)
	require.NoError(t, signature.VerifyStandardWebhooks(got.Header, got.Body, []signature.Secret{secret}, time.Now(), time.Minute))
	u.awaitDelivered(t, receipt.GetEventId())

	r.Respond(500)
	second := u.publish(t, "", `2`)
	r.Next(t)
	stop()
	require.Error(t, svc.Ready())
	r.Respond(200)

	svc, _ = start(t, cfg)
	u = admin(t, svc).with(u.key) // the account's key is still one
	again := u.publish(t, "once", `{"total": 120}`)
	require.True(t, again.GetDuplicate())
	require.Equal(t, receipt.GetEventId(), again.GetEventId())
	d := u.awaitDelivered(t, second.GetEventId())
	require.Positive(t, d.GetAttemptCount())
	u.awaitDelivered(t, receipt.GetEventId())
	list, err := u.webhooks.ListWebhooks(u.ctx(t), &postriderv1.ListWebhooksRequest{})
	require.NoError(t, err)
	require.Len(t, list.GetWebhooks(), 1)
}

// What waits goes on where it was, and nothing waits for leases of the dead. What was being sent
// when the process died comes again too, after stream.AckWait; the drills are about that.
func TestNothingIsLostWhenTheProcessIsKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := receivertest.New(t).Respond(500)
	u, kill := startChild(t, dir)
	u = u.newAccount(t)
	hour := func(w *postriderv1.Webhook) { // 3.6 s, scaled
		w.RetrySchedule = &postriderv1.RetrySchedule{Delays: []*durationpb.Duration{durationpb.New(time.Hour)}}
	}
	u.webhook(t, r.URL, hour)
	accepted := map[string]bool{}
	for range 8 { // fewer than what opens the breaker
		accepted[u.publish(t, "", `{}`).GetEventId()] = true
	}
	u.awaitStates(t, len(accepted), postriderv1.DeliveryState_DELIVERY_STATE_WAITING)
	kill()
	r.Respond(200)

	began := time.Now()
	svc, _ := start(t, config(dir))
	t.Logf("ready after %s", time.Since(began))
	u = admin(t, svc).with(u.key)
	// Each change that waits for members that were killed takes the whole lease; one that does not may
	// be slow for the machine's sake, but not all of them.
	quickest := pkgconfig.Lease
	for n := 0; n < 5 && quickest >= pkgconfig.Lease; n++ {
		began = time.Now()
		u.webhook(t, r.URL, func(w *postriderv1.Webhook) { w.EventTypes = []string{"never.*"} })
		quickest = min(quickest, time.Since(began))
	}
	require.Less(t, quickest, pkgconfig.Lease, "a change must not wait for members that were killed")
	u.awaitStates(t, len(accepted), postriderv1.DeliveryState_DELIVERY_STATE_DELIVERED)
	for _, got := range r.All() {
		require.True(t, accepted[got.Header.Get("webhook-id")])
	}
}

func TestADataFolderIsForOneProcess(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir())
	_, stop := start(t, cfg)

	second, err := standalone.New(cfg, logtest.New(t))
	require.NoError(t, err)
	err = second.Start(t.Context())
	require.ErrorContains(t, err, "is in use by process")
	require.NoError(t, second.Stop(t.Context()))

	stop()
	start(t, cfg)
}

func TestAStartThatFailsLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	taken, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, taken.Close()) })
	cfg := config(t.TempDir())
	for name, change := range map[string]func(*standalone.Config){
		"the HTTP port is taken":        func(c *standalone.Config) { c.HTTPListen = taken.Addr().String() },
		"the gRPC port is taken":        func(c *standalone.Config) { c.GRPC.Listen = taken.Addr().String() },
		"the metrics port is taken":     func(c *standalone.Config) { c.Admin.MetricsListen = taken.Addr().String() },
		"the keyset is none":            func(c *standalone.Config) { c.EncryptionKey = "nonsense" },
		"a service refuses its options": func(c *standalone.Config) { c.Ingest.DedupWindow = c.Events.MaxAge + time.Hour },
		"the log cannot be opened":      func(c *standalone.Config) { c.API.LogFile = filepath.Join("missing", "folder", "log.db") },
	} {
		broken := cfg
		change(&broken)
		svc, err := standalone.New(broken, logtest.New(t))
		require.NoError(t, err, name)
		require.Error(t, svc.Start(t.Context()), name)
		require.NoError(t, svc.Stop(t.Context()), name)
	}
	start(t, cfg)
}

func TestStopWithoutStartIsNothing(t *testing.T) {
	t.Parallel()
	svc, err := standalone.New(config(t.TempDir()), logtest.New(t))
	require.NoError(t, err)
	require.Error(t, svc.Ready())
	require.NoError(t, svc.Stop(t.Context()))
	require.NoError(t, svc.Stop(t.Context()))
}

func TestKeysAreMadeOnceAndKeptForTheirOwnerAlone(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir())
	svc, stop := start(t, cfg)
	first := svc.AdminKey()
	require.NotEmpty(t, first)
	for _, name := range []string{standalone.AdminKeyFile, "encryption.key"} {
		info, err := os.Stat(filepath.Join(cfg.DataDir, name))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), name)
	}
	stop()

	svc, stop = start(t, cfg)
	require.Equal(t, first, svc.AdminKey())
	stop()

	given := cfg
	given.AdminKey = "an-admin-key-of-ones-own"
	svc, stop = start(t, given)
	require.Equal(t, "an-admin-key-of-ones-own", svc.AdminKey())
	text, err := os.ReadFile(svc.AdminKeyPath())
	require.NoError(t, err)
	require.Equal(t, "an-admin-key-of-ones-own\n", string(text), "the command line finds the key that holds")
	_, err = admin(t, svc).accounts.ListAccounts(admin(t, svc).ctx(t), &postriderv1.ListAccountsRequest{})
	require.NoError(t, err)
	stop()

	require.NoError(t, os.WriteFile(filepath.Join(cfg.DataDir, "encryption.key"), nil, 0o600))
	svc, err = standalone.New(cfg, logtest.New(t))
	require.NoError(t, err)
	require.ErrorContains(t, svc.Start(t.Context()), "encryption.key is empty", "a lost keyset is not replaced in silence")
}
