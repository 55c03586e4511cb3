package ingest

import (
	_ "github.com/nats-io/nats.go/jetstream" // planted: jetstream
	_ "github.com/redis/go-redis/v9"         // planted: redis
)
