package redisconn

import (
	"context"
	"net"
)

// unixDialer returns a dialer that connects to a socket in the file system, whatever address it is
// asked for: options for many servers have no network of their own.
func unixDialer(path string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
}
