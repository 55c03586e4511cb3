package stream

import (
	_ "github.com/nats-io/nats.go/jetstream"
)
