package redisconn

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Info is what a Redis says about itself.
type Info struct {
	Version string
	// Policy is what it does when its memory is full: maxmemory-policy.
	Policy string
	// Limited says whether its memory has a limit: maxmemory is set.
	Limited bool
	// AppendOnly says whether it writes each change to a file, Loading whether it still reads one.
	AppendOnly, Loading bool
	// SaveFailed says that its last snapshot could not be written.
	SaveFailed bool
	// Skew is how far its clock is ahead of ours, give or take Uncertain.
	Skew, Uncertain time.Duration
}

// Inspect asks Redis about itself; of a cluster, one of its nodes. It changes nothing.
func (c *Client) Inspect(ctx context.Context) (Info, error) {
	asked := time.Now()
	server, err := c.universal.Time(ctx).Result()
	if err != nil {
		return Info{}, fmt.Errorf("ask Redis for its time: %w", err)
	}
	took := time.Since(asked)
	text, err := c.universal.Info(ctx).Result()
	if err != nil {
		return Info{}, fmt.Errorf("ask Redis about itself: %w", err)
	}
	said := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			said[name] = value
		}
	}
	return Info{
		Version: said["redis_version"], Policy: said["maxmemory_policy"], Limited: said["maxmemory"] != "0",
		AppendOnly: said["aof_enabled"] == "1", Loading: said["loading"] == "1", SaveFailed: said["rdb_last_bgsave_status"] == "err",
		Skew: server.Sub(asked.Add(took / 2)), Uncertain: took / 2,
	}, nil
}
