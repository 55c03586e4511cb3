package standalone_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

func TestARedriveGoesOnAfterEverythingWasKilledAndCountsExactly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad := receivertest.New(t).Respond(500)
	root, kill := startChild(t, dir)
	u := root.newAccount(t)
	const n, hooks = 40, 8 // of which each gets fewer than what opens its breaker
	for range hooks {
		u.webhook(t, bad.URL, once)
	}
	for range n / hooks {
		u.publish(t, "", `{}`)
	}
	u.awaitStates(t, n, dead)
	u.awaitDeadLetters(t, n)
	bad.Respond(200)
	const rate = 20 // two seconds' worth, in batches of ten
	job := u.redrive(t, nil, rate)
	before := u.awaitReplay(t, job.GetId(), func(r *postriderv1.Replay) bool { return r.GetDeliveries() > 0 && r.GetState() == running })
	require.Less(t, before.GetDeliveries(), int64(n), "nothing was under way")
	kill()

	svc, _ := start(t, config(dir))
	u = admin(t, svc).with(u.key)
	after := u.awaitReplay(t, job.GetId(), is(succeeded))
	// The server dies with the process, and forgets acks and message ids of a moment before, so that
	// events are routed again: what is dead stays dead until the redrive gets to it.
	require.EqualValues(t, n, after.GetDeliveries(), "%v; before the kill %v", after, before)
	u.awaitStates(t, n, delivered)
	require.Empty(t, u.deadLetters(t))
	t.Logf("POSTs too many: %d", bad.Count()-2*n)
	require.LessOrEqual(t, bad.Count()-2*n, rate, "a batch, and what was in flight")
}
