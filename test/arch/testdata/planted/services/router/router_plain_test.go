//go:build !integration

package router

import (
	_ "github.com/nats-io/nats-server/v2/server" // planted: jetstream
)
