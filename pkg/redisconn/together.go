package redisconn

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Together reports whether two keys are on one server, as far as the client knows: whoever finds one
// of them away need not try the other. It asks nobody once the client has connected.
func Together(ctx context.Context, c redis.UniversalClient, a, b string) bool {
	cluster, ok := c.(*redis.ClusterClient)
	if !ok {
		return true
	}
	one, err1 := cluster.MasterForKey(ctx, a)
	other, err2 := cluster.MasterForKey(ctx, b)
	return err1 == nil && err2 == nil && one == other
}
