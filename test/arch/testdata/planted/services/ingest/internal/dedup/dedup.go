package dedup

import (
	_ "github.com/postrider/postrider/pkg/redisconn"
	_ "github.com/postrider/postrider/pkg/stream/eventstream"
	_ "github.com/redis/go-redis/v9"
)
