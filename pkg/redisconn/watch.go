package redisconn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// watch is a hook that logs when connections begin to be refused and when that is over, once each:
// while Redis is away every command tries to connect.
type watch struct {
	log  *slog.Logger
	away atomic.Bool
}

// DialHook looks at what comes of new connections.
func (w *watch) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		switch {
		case err == nil && w.away.CompareAndSwap(true, false):
			w.log.InfoContext(ctx, "Redis can be reached again", slog.String("address", addr))
		case err != nil && !errors.Is(err, context.Canceled) && w.away.CompareAndSwap(false, true):
			w.log.WarnContext(ctx, "Redis cannot be reached", slog.String("address", addr), slog.Any("error", err))
		}
		return conn, err
	}
}

// ProcessHook leaves commands as they are.
func (w *watch) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook leaves pipelines as they are.
func (w *watch) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// libraryLog puts what go-redis says about itself into the process's log, at debug.
type libraryLog struct {
	log *slog.Logger
}

// Printf logs one line.
func (l libraryLog) Printf(ctx context.Context, format string, v ...any) {
	if l.log.Enabled(ctx, slog.LevelDebug) {
		l.log.DebugContext(ctx, "go-redis says", slog.String("line", fmt.Sprintf(format, v...)))
	}
}
