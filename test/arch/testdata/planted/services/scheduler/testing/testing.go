package testing

import (
	_ "github.com/nats-io/nats.go/jetstream" // planted: jetstream
)
