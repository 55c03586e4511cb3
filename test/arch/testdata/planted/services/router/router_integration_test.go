//go:build integration

package router

import (
	_ "github.com/nats-io/nats.go/jetstream" // planted: jetstream
)
