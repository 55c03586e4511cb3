package console

import (
	"google.golang.org/grpc"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// clients are those of the public API.
type clients struct {
	accounts    postriderv1.AccountServiceClient
	webhooks    postriderv1.WebhookServiceClient
	eventTypes  postriderv1.EventTypeServiceClient
	deliveries  postriderv1.DeliveryServiceClient
	signingKeys postriderv1.SigningKeyServiceClient
	replays     postriderv1.ReplayServiceClient
	ledger      postriderv1.LedgerServiceClient
	activity    postriderv1.ActivityServiceClient
	audit       postriderv1.AuditServiceClient
	log         postriderv1.LogServiceClient
}

func newClients(conn grpc.ClientConnInterface) clients {
	return clients{
		accounts: postriderv1.NewAccountServiceClient(conn), webhooks: postriderv1.NewWebhookServiceClient(conn),
		eventTypes: postriderv1.NewEventTypeServiceClient(conn), deliveries: postriderv1.NewDeliveryServiceClient(conn),
		signingKeys: postriderv1.NewSigningKeyServiceClient(conn), replays: postriderv1.NewReplayServiceClient(conn),
		ledger: postriderv1.NewLedgerServiceClient(conn), activity: postriderv1.NewActivityServiceClient(conn),
		audit: postriderv1.NewAuditServiceClient(conn), log: postriderv1.NewLogServiceClient(conn),
	}
}
