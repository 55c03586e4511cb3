package standalone

import (
	"context"
	"errors"

	"google.golang.org/grpc"

	"github.com/postrider/postrider/pkg/rpc"
	"github.com/postrider/postrider/pkg/service"
)

// link is one service's internal gRPC server, in memory, and the connection to it.
type link struct {
	server *rpc.Server
	conn   *grpc.ClientConn
}

// links are those of the services that others call.
type links struct{ api, scheduler, dispatcher, router link }

// openLinks makes them. A call made before the server has started waits for it.
func (s *Service) openLinks(ctx context.Context, b *base) (*links, error) {
	var l links
	return &l, errors.Join(
		s.openLink(ctx, b, "api", &l.api),
		s.openLink(ctx, b, "scheduler", &l.scheduler),
		s.openLink(ctx, b, "dispatcher", &l.dispatcher),
		s.openLink(ctx, b, "router", &l.router),
	)
}

func (s *Service) openLink(ctx context.Context, b *base, name string, l *link) error {
	listener, dialer := rpc.InMemory()
	var err error
	l.server, err = rpc.NewServer(rpc.ServerConfig{}, b.log, rpc.WithListener(listener), rpc.WithName(name+"-grpc"), rpc.WithTelemetry(b.telemetry))
	if err != nil {
		return err
	}
	if l.conn, err = rpc.Dial(rpc.ClientConfig{Target: rpc.InMemoryTarget}, dialer, rpc.ClientTelemetry(b.telemetry)); err != nil {
		return err
	}
	return s.settle(ctx, service.Func(name+"-connection", nil, func(context.Context) error { return l.conn.Close() }))
}
