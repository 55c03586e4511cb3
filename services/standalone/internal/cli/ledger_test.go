package cli

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

func TestTheLedgerBalancesAndReconcileSaysSo(t *testing.T) {
	t.Parallel()
	s := running(t)
	s.webhook(t, receivertest.New(t).URL, "--events", "*")
	const n = 3
	for range n {
		s.ok(t, "publish", "order.paid")
	}
	require.Eventually(t, func() bool {
		l := s.json(t, "ledger")["ledger"].(map[string]any)
		return l["delivered"] == "3" && l["difference"] == "0"
	}, patience, 50*time.Millisecond)
	require.Regexp(t, `(?m)^routed +3$`, s.ok(t, "ledger"))
	require.Regexp(t, `(?m)^total +3 +3 +0 +0 +0 +0 +0 +0$`, s.ok(t, "ledger", "--all"))

	out := s.ok(t, "reconcile")
	require.Regexp(t, `(?m)^events +3$`, out)
	require.Regexp(t, `(?m)^imbalances +0$`, out)
	summary := s.json(t, "reconcile", "--repair")["summary"].(map[string]any)
	require.Equal(t, true, summary["index_compared"])

	made := s.json(t, "keys", "create", "reader", "--scope", "read")
	reader := s.with("POSTRIDER_KEY", made["secret"].(string)).with("POSTRIDER_ACCOUNT", "")
	reader.ok(t, "ledger")
	reader.fails(t, exitRefused, "SCOPE_MISSING", "reconcile")
	reader.fails(t, exitRefused, "SCOPE_MISSING", "ledger", "--all")
}

// unbalanced is a deployment of which reconcile names one id.
type unbalanced struct {
	postriderv1.UnimplementedLedgerServiceServer
}

func (unbalanced) Reconcile(req *postriderv1.ReconcileRequest, s grpc.ServerStreamingServer[postriderv1.ReconcileResponse]) error {
	i := &postriderv1.Imbalance{
		Kind: postriderv1.ImbalanceKind_IMBALANCE_KIND_NOT_INDEXED, DeliveryId: "dlv_lost", Places: []string{"RETRIES_0:7"}, Repaired: req.GetRepair(),
	}
	if err := s.Send(&postriderv1.ReconcileResponse{What: &postriderv1.ReconcileResponse_Imbalance{Imbalance: i}}); err != nil {
		return err
	}
	left := &postriderv1.ReconcileSummary{Imbalances: 1}
	if req.GetRepair() {
		left.Imbalances, left.Repaired = 0, 1
	}
	return s.Send(&postriderv1.ReconcileResponse{What: &postriderv1.ReconcileResponse_Summary{Summary: left}})
}

func TestReconcileFailsIfAnIdDoesNotBalanceAndIsNotRepaired(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	postriderv1.RegisterLedgerServiceServer(server, unbalanced{})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		require.NoError(t, <-served)
	})
	s := &shell{env: map[string]string{"POSTRIDER_SERVER": listener.Addr().String(), "POSTRIDER_KEY": "key"}}

	named := s.fails(t, exitFailure, "1 ids do not balance", "reconcile")
	require.Regexp(t, `(?m)^not_indexed$`, named.out)
	require.Regexp(t, `(?m)^  delivery +dlv_lost$`, named.out)
	require.Regexp(t, `(?m)^  in +RETRIES_0:7$`, named.out)
	require.Regexp(t, `(?m)^  repaired +yes$`, s.ok(t, "reconcile", "--repair"))
}
