package cli

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
