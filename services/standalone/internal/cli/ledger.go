package cli

import (
	"context"
	"errors"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func (p *program) ledgerCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "ledger",
		Short: "Count where every delivery is",
		Long: `Count where every delivery is: routed = delivered + dead + cancelled + waiting + held + in flight.
Each term is counted where it is and none is computed from the others, one after the other: the
difference is 0 when nothing moves, the log has recorded all, and all is well. To have ids named
that do not balance, see postrider reconcile.`,
		Example: "  postrider ledger\n  postrider ledger --all -o json",
		Args:    cobra.NoArgs,
	}
	c.Flags().BoolVar(&all, "all", false, "of every account, with an admin key")
	c.RunE = p.remote(func(ctx context.Context, cl *client, _ []string) error {
		if all {
			return p.ledgers(ctx, cl)
		}
		resp, err := cl.ledger.GetLedger(ctx, &postriderv1.GetLedgerRequest{AccountId: cl.account})
		if err != nil {
			return err
		}
		return p.show(resp, func(t *table) {
			l := resp.GetLedger()
			t.field("account", l.GetAccountId())
			for _, term := range terms {
				t.field(term.name, strconv.FormatInt(term.of(l), 10))
			}
			t.field("unrecorded", strconv.FormatInt(resp.GetUnrecorded(), 10))
			t.field("counted", stamp(resp.GetCountTime()))
		})
	})
	return c
}

// terms of a ledger, in the order in which they are shown.
var terms = []struct {
	name string
	of   func(*postriderv1.Ledger) int64
}{
	{"routed", (*postriderv1.Ledger).GetRouted},
	{"delivered", (*postriderv1.Ledger).GetDelivered},
	{"dead", (*postriderv1.Ledger).GetDead},
	{"cancelled", (*postriderv1.Ledger).GetCancelled},
	{"waiting", (*postriderv1.Ledger).GetWaiting},
	{"held", (*postriderv1.Ledger).GetHeld},
	{"in flight", (*postriderv1.Ledger).GetInFlight},
	{"difference", (*postriderv1.Ledger).GetDifference},
}

func (p *program) ledgers(ctx context.Context, cl *client) error {
	resp, err := cl.ledger.ListLedgers(ctx, &postriderv1.ListLedgersRequest{})
	if err != nil {
		return err
	}
	return p.show(resp, func(t *table) {
		t.row("ACCOUNT", "ROUTED", "DELIVERED", "DEAD", "CANCELLED", "WAITING", "HELD", "IN FLIGHT", "DIFFERENCE")
		for _, l := range append(resp.GetLedgers(), resp.GetTotal()) {
			cells := []string{l.GetAccountId()}
			if cells[0] == "" {
				cells[0] = "total"
			}
			for _, term := range terms {
				cells = append(cells, strconv.FormatInt(term.of(l), 10))
			}
			t.row(cells...)
		}
	})
}

const imbalancePrefix = "IMBALANCE_KIND_"

func (p *program) reconcileCommand() *cobra.Command {
	var repair bool
	c := &cobra.Command{
		Use:   "reconcile",
		Short: "Name every event and delivery that does not balance",
		Long: `Walk the streams, the journal, the delivery log and the retry index of the whole deployment, compare
them, and name every id that does not balance. It works while the deployment runs: what moves is
looked at again, for 20 seconds at least, before it is named. It needs an admin key.

--repair puts back what can be rebuilt: members of the retry index; rows of the log, from the journal;
and records of deliveries that have not ended and are in no store, from their events. With -o json each
imbalance is a line, and the summary is the last.

The exit code is 1 if something does not balance and was not repaired.`,
		Example: "  postrider reconcile\n  postrider reconcile --repair -o json",
		Args:    cobra.NoArgs,
	}
	c.Flags().BoolVar(&repair, "repair", false, "put back what can be rebuilt")
	c.RunE = p.remote(func(ctx context.Context, cl *client, _ []string) error {
		stream, err := cl.ledger.Reconcile(ctx, &postriderv1.ReconcileRequest{Repair: repair, Progress: true})
		if err != nil {
			return err
		}
		g := p.progress()
		defer g.end()
		for {
			resp, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return failf("the server ended without a summary")
			}
			if err != nil {
				return err
			}
			if at := resp.GetProgress(); at != nil {
				g.show(reconcileSteps[at.GetStep()], at.GetDone(), at.GetTotal(), "")
				continue
			}
			g.end()
			if err := p.reconciled(resp); err != nil {
				return err
			}
			if s := resp.GetSummary(); s != nil {
				return balanced(s)
			}
		}
	})
	return c
}

// reconcileSteps are the steps of a reconciliation, for people.
var reconcileSteps = map[postriderv1.ReconcileStep]string{
	postriderv1.ReconcileStep_RECONCILE_STEP_UNSPECIFIED: "working",
	postriderv1.ReconcileStep_RECONCILE_STEP_STREAMS:     "reading the streams",
	postriderv1.ReconcileStep_RECONCILE_STEP_RECORDER:    "waiting for the recorder",
	postriderv1.ReconcileStep_RECONCILE_STEP_LOG:         "comparing the delivery log",
	postriderv1.ReconcileStep_RECONCILE_STEP_EVENTS:      "comparing events",
	postriderv1.ReconcileStep_RECONCILE_STEP_JOURNAL:     "comparing the journal",
	postriderv1.ReconcileStep_RECONCILE_STEP_INDEX:       "comparing the retry index",
	postriderv1.ReconcileStep_RECONCILE_STEP_SETTLE:      "letting settle what moved",
	postriderv1.ReconcileStep_RECONCILE_STEP_REPAIR:      "repairing",
}

// balanced is the exit code of a summary.
func balanced(s *postriderv1.ReconcileSummary) error {
	if n := s.GetImbalances(); n > 0 {
		return failf("%d ids do not balance", n)
	}
	return nil
}

// reconciled prints one message: a line for programs, a paragraph for people.
func (p *program) reconciled(resp *postriderv1.ReconcileResponse) error {
	if p.globals.output == outputJSON {
		return showLine(p.Out, resp)
	}
	return p.showTable(func(t *table) {
		if i := resp.GetImbalance(); i != nil {
			t.line(enum(i.GetKind(), imbalancePrefix))
			t.field("  event", i.GetEventId())
			t.field("  delivery", i.GetDeliveryId())
			t.field("  webhook", i.GetWebhookId())
			t.field("  account", i.GetAccountId())
			t.field("  state", i.GetState())
			for _, place := range i.GetPlaces() {
				t.field("  in", place)
			}
			if i.GetRepaired() {
				t.field("  repaired", "yes")
			}
			return
		}
		s := resp.GetSummary()
		for _, f := range []struct {
			name string
			n    int64
		}{
			{"events", s.GetEvents()},
			{"journal entries", s.GetJournalEntries()},
			{"log: unfinished or dead", s.GetLogDeliveries()},
			{"deliveries", s.GetDeliveries()},
			{"retry records", s.GetRecords()},
			{"due retries", s.GetDue()},
			{"dead letters", s.GetDeadLetters()},
			{"looked at again", s.GetSuspects()},
			{"repaired", s.GetRepaired()},
			{"imbalances", s.GetImbalances()},
		} {
			t.field(f.name, strconv.FormatInt(f.n, 10))
		}
		if !s.GetIndexCompared() {
			t.field("retry index", "did not answer, and was not compared")
		}
	})
}
