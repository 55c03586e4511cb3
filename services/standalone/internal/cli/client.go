package cli

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/postrider/postrider/pkg/rpc"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// client is the public API as one user calls it.
type client struct {
	accounts   postriderv1.AccountServiceClient
	webhooks   postriderv1.WebhookServiceClient
	eventTypes postriderv1.EventTypeServiceClient
	deliveries postriderv1.DeliveryServiceClient
	replays    postriderv1.ReplayServiceClient
	ledger     postriderv1.LedgerServiceClient
	log        postriderv1.LogServiceClient
	activity   postriderv1.ActivityServiceClient
	audit      postriderv1.AuditServiceClient
	events     postriderv1.EventServiceClient
	account    string // for requests; empty: the key's own
	bootstrap  bool   // whether the key is the admin key of this machine's own server
	close      func()
}

// needsAccount refuses what would be about admin keys if no account is named.
func (c *client) needsAccount() error {
	if c.bootstrap && c.account == "" {
		return usagef("name the account with --account or POSTRIDER_ACCOUNT, or say --admin")
	}
	return nil
}

// connect makes the client. It calls nobody yet.
func (p *program) connect() (*client, error) {
	key, err := p.credential()
	if err != nil {
		return nil, err
	}
	manage, err := p.dial(p.globals.server, key)
	if err != nil {
		return nil, usage(err)
	}
	publish := manage
	if target := p.ingestTarget(); target != p.globals.server {
		if publish, err = p.dial(target, key); err != nil {
			_ = manage.Close()
			return nil, usage(err)
		}
	}
	return &client{
		accounts:   postriderv1.NewAccountServiceClient(manage),
		webhooks:   postriderv1.NewWebhookServiceClient(manage),
		eventTypes: postriderv1.NewEventTypeServiceClient(manage),
		deliveries: postriderv1.NewDeliveryServiceClient(manage),
		replays:    postriderv1.NewReplayServiceClient(manage),
		ledger:     postriderv1.NewLedgerServiceClient(manage),
		log:        postriderv1.NewLogServiceClient(manage),
		activity:   postriderv1.NewActivityServiceClient(manage),
		audit:      postriderv1.NewAuditServiceClient(manage),
		events:     postriderv1.NewEventServiceClient(publish),
		account:    p.globals.account,
		bootstrap:  p.globals.key == "" && key != "",
		close: func() {
			_ = manage.Close() // closing twice does no harm, and nothing can be done about an error
			_ = publish.Close()
		},
	}, nil
}

func (p *program) dial(target, key string) (*grpc.ClientConn, error) {
	g := &p.globals
	cfg := rpc.ClientConfig{Target: target, CAFile: g.tlsCA, CertFile: g.tlsCert, KeyFile: g.tlsKey, ServerName: g.tlsName}
	opts := []grpc.DialOption{grpc.WithChainUnaryInterceptor(p.limited)}
	if key != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(bearer(key)))
	}
	conn, err := rpc.Dial(cfg, opts...)
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", target, err)
	}
	return conn, nil
}

// limited bounds each call that is not a stream.
func (p *program) limited(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(ctx, p.globals.timeout)
	defer cancel()
	return invoke(ctx, method, req, reply, cc, opts...)
}

// bearer is a credential that goes with each call.
type bearer string

// GetRequestMetadata is the header of a call.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity lets the credential travel in clear, as it does on one machine and
// inside a cluster's mesh.
func (bearer) RequireTransportSecurity() bool { return false }
