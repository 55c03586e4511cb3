package standalone

import (
	_ "github.com/nats-io/nats-server/v2/server"
	_ "github.com/nats-io/nats.go/jetstream"
	_ "github.com/postrider/postrider/services/ingest"
	_ "github.com/postrider/postrider/services/router"
	_ "github.com/redis/go-redis/v9"
)
