package eventstream

import (
	_ "github.com/nats-io/nats.go/jetstream"
	_ "github.com/postrider/postrider/pkg/stream"
	_ "github.com/redis/go-redis/v9" // planted: redis
)
