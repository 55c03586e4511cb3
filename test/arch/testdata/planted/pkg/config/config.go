package config

import (
	_ "github.com/nats-io/nats.go/jetstream"
	_ "github.com/postrider/postrider/pkg/natsconn"
	_ "github.com/postrider/postrider/pkg/process" // planted: ranks
	_ "github.com/postrider/postrider/pkg/stream"
	_ "github.com/postrider/postrider/pkg/stream/bucket"
	_ "github.com/postrider/postrider/pkg/stream/journal" // planted: ranks
)
