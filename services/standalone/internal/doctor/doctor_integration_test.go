//go:build integration

package doctor_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/services/standalone"
	"github.com/postrider/postrider/services/standalone/internal/doctor"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/pgtest"
	"github.com/postrider/postrider/test/fixture/redistest"
)

func TestRedis(t *testing.T) {
	t.Parallel()
	g := lay(t)
	server := redistest.Start(t)
	g.cfg.Redis.URL = server.URL
	r := g.examine(t)
	found(t, r, doctor.OK, "redis", "connected to Redis")
	found(t, r, doctor.OK, "redis memory", "drops no keys")
	found(t, r, doctor.OK, "redis persistence", "keeps no file")
	found(t, r, doctor.OK, "clock", "Redis's clock and ours agree")

	set := func(name, value string) {
		require.NoError(t, server.Client(t).ConfigSet(t.Context(), name, value).Err())
	}
	set("maxmemory-policy", "allkeys-lru")
	found(t, g.examine(t), doctor.Warning, "redis memory", "allkeys-lru")
	set("maxmemory", "100mb")
	f := found(t, g.examine(t), doctor.Failure, "redis memory", "allkeys-lru")
	require.Contains(t, f.Mend, "noeviction")
	set("appendonly", "yes")
	found(t, g.examine(t), doctor.OK, "redis persistence", "writes its changes to a file")

	set("requirepass", "right")
	f = found(t, g.examine(t), doctor.Failure, "redis", "NOAUTH")
	require.Contains(t, f.Mend, "POSTRIDER_REDIS_PASSWORD")
	g.cfg.Redis.Password = "wrong"
	f = found(t, g.examine(t), doctor.Failure, "redis", "WRONGPASS")
	require.Contains(t, f.Mend, "POSTRIDER_REDIS_PASSWORD")
	g.cfg.Redis.Password = "right"
	found(t, g.examine(t), doctor.OK, "redis", "connected to Redis")

	server.Down(t)
	f = found(t, g.examine(t), doctor.Failure, "redis", "refused")
	require.Contains(t, f.Mend, "start Redis")
}

func TestADeliveryLogInPostgreSQL(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Fast()...)
	url := server.URL(t)
	g := lay(t)
	g.cfg.API.LogURL = conf.Secret(url)
	found(t, g.examine(t), doctor.Warning, "delivery log", "there is no delivery log (postgresql) yet")

	cfg := standalone.Default()
	cfg.DataDir, cfg.API.LogURL = t.TempDir(), conf.Secret(url)
	cfg.GRPC.Listen, cfg.HTTPListen, cfg.Admin.MetricsListen = "127.0.0.1:0", "127.0.0.1:0", ""
	svc, err := standalone.New(cfg, logtest.New(t))
	require.NoError(t, err)
	require.NoError(t, svc.Start(t.Context()))
	found(t, doctor.Folder(t.Context(), &cfg, ""), doctor.OK, "delivery log", "postgresql, schema version")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, svc.Stop(ctx))
	found(t, g.examine(t), doctor.OK, "delivery log", "postgresql, schema version")

	g.cfg.API.LogURL = conf.Secret(strings.Replace(url, "postgres://postrider@", "postgres://nobody:hush@", 1))
	f := found(t, g.examine(t), doctor.Failure, "delivery log", "nobody")
	require.NotContains(t, f.What, "hush")
	g.cfg.API.LogURL = conf.Secret(url)
	server.Down(t)
	found(t, g.examine(t), doctor.Failure, "delivery log", "connect")
}
