package doctor_test

import (
	"context"
	"database/sql"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/natsconn"
	"github.com/postrider/postrider/services/standalone"
	"github.com/postrider/postrider/services/standalone/internal/doctor"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestASoundDeploymentIsFoundSound(t *testing.T) {
	t.Parallel()
	g := lay(t).furnish(t)
	r := g.examine(t)
	sound(t, r, "redis", "resolver") // there is none here, and may be no network
	found(t, r, doctor.OK, "nats", "with JetStream")
	found(t, r, doctor.OK, "nats storage", "all streams")
	found(t, r, doctor.OK, "shards", "1, as configured")
	found(t, r, doctor.OK, "segments", "1, as configured")
	found(t, r, doctor.OK, "streams", "as configured")
	found(t, r, doctor.OK, "clock", "NATS's clock and ours agree")
	found(t, r, doctor.OK, "delivery log", "sqlite, schema version")
	found(t, r, doctor.OK, "delivery log", "0 messages of the journal wait")
	found(t, r, doctor.OK, "encryption key", "")
	found(t, r, doctor.OK, "egress", "only public addresses")
	require.Equal(t, 1, r.Failures())
	found(t, r, doctor.Failure, "redis", "no Redis is configured")
}

// What is missing is named, and stays missing.
func TestNothingIsChanged(t *testing.T) {
	t.Parallel()
	g := lay(t)
	before, err := os.Stat(g.cfg.API.LogFile)
	require.NoError(t, err)
	r := g.examine(t)
	found(t, r, doctor.Failure, "streams", "EVENTS is missing")
	found(t, r, doctor.Failure, "streams", "KV_webhooks is missing")
	found(t, r, doctor.Warning, "streams", "consumer router of EVENTS is missing")
	found(t, r, doctor.Warning, "shards", "no number of shards is stored")
	found(t, r, doctor.Warning, "segments", "no number of segments is stored")
	found(t, r, doctor.Warning, "delivery log", "nothing records the journal")
	js, err := jetstream.New(g.nats.NC(t))
	require.NoError(t, err)
	names := js.StreamNames(t.Context())
	for name := range names.Name() {
		t.Errorf("%s was made", name)
	}
	after, err := os.Stat(g.cfg.API.LogFile)
	require.NoError(t, err)
	require.Equal(t, before.ModTime(), after.ModTime())
	require.Equal(t, before.Size(), after.Size())
}

func TestStreamsThatAreNotAsConfigured(t *testing.T) {
	t.Parallel()
	g := lay(t).furnish(t)
	ctx := t.Context()
	require.NoError(t, g.js.DeleteStream(ctx, "DEADLETTERS"))
	s, err := g.js.Stream(ctx, "JOURNAL")
	require.NoError(t, err)
	changed := s.CachedInfo().Config
	changed.MaxAge = time.Hour
	_, err = g.js.UpdateStream(ctx, changed)
	require.NoError(t, err)
	con, err := g.js.Consumer(ctx, "DELIVERIES_0", "dispatcher")
	require.NoError(t, err)
	standing := con.CachedInfo().Config
	standing.MaxAckPending = 3
	_, err = g.js.UpdateConsumer(ctx, "DELIVERIES_0", standing)
	require.NoError(t, err)
	require.NoError(t, g.js.DeleteConsumer(ctx, "EVENTS", "router"))

	r := g.examine(t)
	found(t, r, doctor.Failure, "streams", "DEADLETTERS is missing")
	found(t, r, doctor.Failure, "streams", "JOURNAL is not as configured: MaxAge is 1h0m0s, not ")
	found(t, r, doctor.Failure, "streams", "consumer dispatcher of DELIVERIES_0 is not as configured: MaxAckPending is 3, not ")
	found(t, r, doctor.Warning, "streams", "consumer router of EVENTS is missing")

	g.cfg.Process.Streams.Shards = 4
	found(t, g.examine(t), doctor.Warning, "shards", "there are 1 shards, but a new system would get 4")

	g.cfg.Process.Streams.Shards, g.cfg.Process.Streams.Segments = 1, 2
	found(t, g.examine(t), doctor.Failure, "segments", "events are stored in 1 segments, but 2 are configured")
}

func TestNATSThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	t.Run("away", func(t *testing.T) {
		t.Parallel()
		g := lay(t)
		g.nats.Stop()
		found(t, g.examine(t), doctor.Failure, "nats", "connect to NATS within")
	})
	t.Run("wrong password", func(t *testing.T) {
		t.Parallel()
		g := lay(t, natstest.WithOptions(func(o *server.Options) { o.Username, o.Password = "postrider", "right" }))
		g.cfg.Process.NATS.URL = strings.Replace(g.nats.URL, "nats://", "nats://postrider:wrong@", 1)
		r := g.examine(t)
		f := found(t, r, doctor.Failure, "nats", "Authorization Violation")
		require.Contains(t, f.Mend, "credentials")
		require.NotContains(t, f.What, "wrong@")
		g.cfg.Process.NATS.URL = strings.Replace(g.nats.URL, "nats://", "nats://postrider:right@", 1)
		found(t, g.examine(t), doctor.OK, "nats", "connected to natstest")
	})
	t.Run("a user who may not ask", func(t *testing.T) {
		t.Parallel()
		g := lay(t, natstest.WithOptions(func(o *server.Options) {
			o.Users = []*server.User{{Username: "one", Password: "right", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"$JS.API.>"}}}}}
		}))
		g.cfg.Process.NATS.URL = strings.Replace(g.nats.URL, "nats://", "nats://one:right@", 1)
		f := found(t, g.examine(t), doctor.Failure, "nats", "ask for JetStream")
		require.Contains(t, f.Mend, "as for a backup")
	})
	t.Run("without JetStream", func(t *testing.T) {
		t.Parallel()
		g := lay(t, natstest.WithOptions(func(o *server.Options) { o.JetStream = false }))
		found(t, g.examine(t), doctor.Failure, "nats", "has no JetStream")
	})
	t.Run("small messages", func(t *testing.T) {
		t.Parallel()
		g := lay(t, natstest.WithOptions(func(o *server.Options) { o.MaxPayload = 1 << 10 }))
		found(t, g.examine(t), doctor.Failure, "nats", "the server takes messages of 1024 only")
	})
	t.Run("nearly full", func(t *testing.T) {
		t.Parallel()
		const most = 1 << 20
		g := lay(t)
		require.NoError(t, g.nats.Server().GlobalAccount().UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{
			"": {MaxMemory: -1, MaxStore: most, MaxStreams: -1, MaxConsumers: -1},
		}))
		js, err := jetstream.New(g.nats.NC(t))
		require.NoError(t, err)
		_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHERS", Subjects: []string{"others"}})
		require.NoError(t, err)
		fill := func(share int) {
			_, err := js.Publish(t.Context(), "others", make([]byte, most*share/100))
			require.NoError(t, err)
		}
		fill(50)
		found(t, g.examine(t), doctor.OK, "nats storage", "of 1.0 MiB")
		fill(35)
		found(t, g.examine(t), doctor.Warning, "nats storage", "of 1.0 MiB")
		fill(11)
		found(t, g.examine(t), doctor.Failure, "nats storage", "of 1.0 MiB")
	})
}

// A cluster of which a server is away still works, and says so.
func TestACopyThatIsAway(t *testing.T) {
	t.Parallel()
	cluster := natstest.StartCluster(t, 3)
	g := lay(t)
	nc, err := natsconn.Connect(t.Context(), natsconn.Config{URL: cluster.URL, ConnectTimeout: patience, ReconnectWait: time.Second, PingInterval: time.Second}, "doctor/test", logtest.New(t))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events.>"}, Replicas: 3})
		return err == nil
	}, patience, 50*time.Millisecond)
	g.cfg.Process.NATS.URL = cluster.URL
	cluster.Nodes[2].Stop()
	require.Eventually(t, func() bool {
		for _, f := range g.examine(t).Findings {
			if f.Check == "replicas" && strings.Contains(f.What, "EVENTS has 2 of 3 copies") {
				return true
			}
		}
		return false
	}, patience, 100*time.Millisecond)
}

func TestTheDeliveryLog(t *testing.T) {
	t.Parallel()
	g := lay(t)
	db, err := sql.Open("sqlite", "file:"+url.PathEscape(g.cfg.API.LogFile))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	exec := func(text string) {
		_, err := db.ExecContext(t.Context(), text)
		require.NoError(t, err)
	}
	exec(`UPDATE log SET incomplete = 7`)
	found(t, g.examine(t), doctor.Warning, "delivery log", "being built from the journal")
	exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`)
	found(t, g.examine(t), doctor.Failure, "delivery log", "has version 9999, later than")
	exec(`DELETE FROM goose_db_version WHERE version_id > 1`)
	found(t, g.examine(t), doctor.Warning, "delivery log", "has version 1, and this program's is")

	g.cfg.API.LogFile = filepath.Join(t.TempDir(), "none.db")
	found(t, g.examine(t), doctor.Warning, "delivery log", "there is no delivery log (sqlite) yet")
	require.NoFileExists(t, g.cfg.API.LogFile)
	require.NoError(t, os.WriteFile(g.cfg.API.LogFile, []byte(strings.Repeat("no database ", 100)), 0o600))
	found(t, g.examine(t), doctor.Failure, "delivery log", "not a database")
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	g := lay(t)
	g.cfg.EncryptionKey, g.cfg.AdminKey = "", ""
	r := g.examine(t)
	found(t, r, doctor.Failure, "encryption key", "there is no keyset")
	found(t, r, doctor.Warning, "admin key", "there is no admin key")
	g.cfg.EncryptionKey = "c2VjcmV0"
	f := found(t, g.examine(t), doctor.Failure, "encryption key", "keyset")
	require.NotContains(t, f.What, "c2VjcmV0")
}

func TestReceiversAreReachedAsAttemptsAre(t *testing.T) {
	t.Parallel()
	g := lay(t)
	asked := make(chan string, 1)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method
		w.WriteHeader(http.StatusMethodNotAllowed)
	}))
	t.Cleanup(receiver.Close)
	reach := func(url string) *doctor.Report { return doctor.Services(t.Context(), &g.cfg, url) }
	found(t, reach(receiver.URL), doctor.Failure, "receiver", "ssrf_blocked")
	require.Empty(t, asked)
	found(t, reach("https://receiver.invalid/"), doctor.Failure, "receiver", "(dns)")
	found(t, reach("ftp://x"), doctor.Failure, "receiver", "not an http or https URL")

	g.cfg.Dispatcher.Egress.AllowNetworks = []string{"127.0.0.0/8", "8.8.8.8"}
	r := reach(receiver.URL)
	found(t, r, doctor.OK, "receiver", "status 405")
	require.Equal(t, http.MethodHead, <-asked)
	require.Contains(t, found(t, r, doctor.Warning, "egress", "127.0.0.0/8, which is not public").What, "any webhook may reach 127.0.0.0/8,")
	receiver.Close()
	found(t, reach(receiver.URL), doctor.Failure, "receiver", "(connect)")

	g.cfg.Dispatcher.Egress.CAFile = filepath.Join(t.TempDir(), "none.pem")
	found(t, reach(""), doctor.Failure, "egress", "certificate authorities")
}

func TestADataFolder(t *testing.T) {
	t.Parallel()
	cfg := standalone.Default()
	cfg.DataDir = folder(t)
	cfg.GRPC.Listen, cfg.HTTPListen, cfg.Admin.MetricsListen = "127.0.0.1:0", "127.0.0.1:0", ""
	examine := func() *doctor.Report { return doctor.Folder(t.Context(), &cfg, "") }
	r := examine()
	sound(t, r, "egress", "resolver", "disk") // which development opens, and what the machine has
	require.Zero(t, r.Failures())
	found(t, r, doctor.OK, "data folder", "used by no process")
	found(t, r, doctor.OK, "streams", "streams and buckets are stored")
	found(t, r, doctor.OK, "redis", "none is configured")

	svc, err := standalone.New(cfg, logtest.New(t))
	require.NoError(t, err)
	require.NoError(t, svc.Start(t.Context()))
	found(t, examine(), doctor.OK, "data folder", "in use by process ")
	found(t, examine(), doctor.OK, "delivery log", "sqlite")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, svc.Stop(ctx))

	require.NoError(t, os.Chmod(filepath.Join(cfg.DataDir, standalone.AdminKeyFile), 0o644))
	found(t, examine(), doctor.Failure, "admin key", "can be read by other users")
	require.NoError(t, os.WriteFile(filepath.Join(cfg.DataDir, "encryption.key"), []byte("nonsense"), 0o600))
	found(t, examine(), doctor.Failure, "encryption key", "keyset")
	cfg.DataDir = filepath.Join(t.TempDir(), "none")
	found(t, examine(), doctor.Warning, "data folder", "there is no folder")
	require.NoDirExists(t, cfg.DataDir)
}
