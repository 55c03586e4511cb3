package bucket

import (
	_ "github.com/nats-io/nats.go/jetstream"
	_ "github.com/postrider/postrider/pkg/stream"
)
