package doctor

import (
	"context"
	"strings"

	"github.com/postrider/postrider/pkg/redisconn"
)

const noEviction = "noeviction"

// redis looks at the server of the indexes, which the services need and a single process does not.
func (r *Report) redis(ctx context.Context, cfg redisconn.Config, needed bool) {
	if cfg.URL == "" {
		if needed {
			r.fail("redis", "set POSTRIDER_REDIS_URL for ingest and scheduler", "no Redis is configured")
		} else {
			r.ok("redis", "none is configured: deduplication and the retry index are in the process")
		}
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := redisconn.Open(cfg, quiet)
	if err != nil {
		r.fail("redis", "correct the options of Redis", "%v", err)
		return
	}
	defer func() { _ = c.Close() }() // it was only asked
	info, err := c.Inspect(ctx)
	if err != nil {
		mend := "start Redis, or set POSTRIDER_REDIS_URL to where it is; until then duplicates are found in a shorter window, and retries are late by the grace"
		if text := err.Error(); strings.Contains(text, "WRONGPASS") || strings.Contains(text, "NOAUTH") || strings.Contains(text, "NOPERM") {
			mend = "set POSTRIDER_REDIS_USERNAME and POSTRIDER_REDIS_PASSWORD to those of a user who may use INFO and TIME"
		}
		r.fail("redis", mend, "%v", err)
		return
	}
	if older(info.Version, 7, 0) {
		r.warn("redis", "use Redis 7 or newer, with which Postrider is tested", "the server is Redis %s", info.Version)
	} else {
		r.ok("redis", "connected to Redis %s", info.Version)
	}
	switch {
	case info.Policy != noEviction && info.Limited:
		r.fail("redis memory", "set maxmemory-policy to noeviction", "Redis drops keys when its memory is full (%s): retries would be late, and duplicates accepted", info.Policy)
	case info.Policy != noEviction:
		r.warn("redis memory", "set maxmemory-policy to noeviction", "Redis would drop keys if maxmemory were set (%s)", info.Policy)
	default:
		r.ok("redis memory", "Redis drops no keys when its memory is full")
	}
	switch {
	case info.Loading:
		r.warn("redis persistence", "wait until it has", "Redis still reads its file")
	case info.SaveFailed:
		r.warn("redis persistence", "look at Redis's log and its disk", "Redis could not write its last snapshot")
	case info.AppendOnly:
		r.ok("redis persistence", "Redis writes its changes to a file")
	default:
		r.ok("redis persistence", "Redis keeps no file of its changes; what a restart loses is built again from NATS")
	}
	r.clock("Redis", info.Skew, info.Uncertain)
}
