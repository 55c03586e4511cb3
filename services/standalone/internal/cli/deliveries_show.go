package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const (
	kindPrefix   = "LOOK_UP_KIND_"
	windowPrefix = "DEDUP_WINDOW_"
)

func (p *program) deliveriesShow() *cobra.Command {
	var reveal bool
	c := &cobra.Command{
		Use:   "show ID",
		Short: "Show everything that happened to an event or a delivery",
		Long: `Show everything that happened to an event: how it was accepted and matched, which webhooks did not
match and why, and for each delivery what it waited for, each attempt with its timings, and what
comes next. The id may be that of an event, a delivery, an attempt or a call, an idempotency key,
the producer's own id, or a trace id, if it leads to one event.

Bodies, and headers that prove who sent them, are masked. --reveal shows them, to keys with the
scope payloads or manage.`,
		Example: `  postrider deliveries show dlv_6tzpwd6c3nq2e7m5r8k1xg4v0b9h
  postrider deliveries show evt_01HF7YAT00ZZZZZZZZZZZZZZZZ --reveal -o json`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().BoolVar(&reveal, "reveal", false, "show what is masked")
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		resp, err := cl.log.GetFlightRecord(ctx, &postriderv1.GetFlightRecordRequest{AccountId: cl.account, Id: args[0], Reveal: reveal})
		if err != nil {
			return err
		}
		return p.show(resp.GetRecord(), func(t *table) { showFlight(t, resp.GetRecord()) })
	})
	return c
}

func showFlight(t *table, f *postriderv1.FlightRecord) {
	e := f.GetEvent()
	t.field("event", e.GetId())
	t.field("type", e.GetType())
	t.field("accepted", stamp(e.GetAcceptTime()))
	t.field("sequence", strconv.FormatUint(e.GetSequence(), 10))
	t.field("key", e.GetIdempotencyKey())
	t.field("own id", e.GetGivenId())
	t.field("duplicates", enum(f.GetDedupWindow(), windowPrefix))
	t.field("trace", e.GetTraceId())
	t.field("routed", stamp(e.GetRouteTime()))
	t.field("expunged", stamp(e.GetExpungeTime()))
	if f.GetKept() {
		t.field("data", fmt.Sprintf("%d bytes %s", f.GetDataSize(), excerpt(f.GetPublished().GetData())))
	}
	t.field("matched", fmt.Sprintf("%d, not matched %d", e.GetMatchedCount(), e.GetUnmatchedCount()))
	for _, u := range f.GetUnmatched() {
		t.field("  not "+u.GetWebhookId(), strings.TrimSpace(u.GetReason()+" "+u.GetDetail()))
	}
	for _, d := range f.GetDeliveries() {
		t.line("")
		showDelivery(t, d.GetDelivery())
		for _, s := range d.GetSteps() {
			showStep(t, d.GetDelivery(), s)
		}
		if d.GetMoreSteps() {
			t.field("  ...", "more steps are left out")
		}
	}
	if f.GetMoreDeliveries() {
		t.line("more deliveries are left out: postrider deliveries list --event " + e.GetId())
	}
}

func showDelivery(t *table, d *postriderv1.Delivery) {
	t.field("delivery", d.GetId())
	t.field("webhook", d.GetWebhookId())
	t.field("state", enum(d.GetState(), statePrefix))
	t.field("reason", d.GetReason())
	t.field("attempts", strconv.Itoa(int(d.GetAttemptCount())))
	if d.GetSeries() > 0 {
		t.field("redriven", strconv.Itoa(int(d.GetSeries())))
	}
	t.field("last result", lastResult(d))
	t.field("next attempt", stamp(d.GetNextAttemptTime()))
	t.field("created", stamp(d.GetCreateTime()))
	t.field("updated", stamp(d.GetUpdateTime()))
	t.field("replay", d.GetReplayId())
	t.field("call id", d.GetCallId())
}

// showStep prints one step, with its time since the delivery was made.
func showStep(t *table, d *postriderv1.Delivery, s *postriderv1.FlightStep) {
	at := "  " + since(d.GetCreateTime(), s.GetTime())
	if c := s.GetChange(); c != nil {
		words := enum(c.GetState(), statePrefix) + ": " + c.GetReason()
		if c.GetNextAttemptTime() != nil {
			words += ", until " + stamp(c.GetNextAttemptTime())
		}
		t.field(at, words)
		return
	}
	a := s.GetAttempt()
	words := a.GetOutcome()
	if a.GetStatusCode() > 0 {
		words += " " + strconv.Itoa(int(a.GetStatusCode()))
	}
	if a.GetErrorClass() != "" {
		words += " " + a.GetErrorClass() + " (" + a.GetErrorMessage() + ")"
	}
	name := "attempt " + strconv.Itoa(int(a.GetNumber()))
	if a.GetTrigger() != "schedule" {
		name = a.GetTrigger() + " attempt"
	}
	t.field(at, name+": "+words+" in "+rounded(a.GetDuration()))
	t.field("", phases(a))
	t.field("", a.GetRequestMethod()+" "+a.GetRequestUrl())
	for _, name := range sortedKeys(a.GetRequestHeaders()) {
		t.field("", "  > "+name+": "+a.GetRequestHeaders()[name])
	}
	if body := a.GetRequestBody(); len(body) > 0 {
		t.field("", "  > "+excerpt(body))
	}
	for _, name := range sortedKeys(a.GetResponseHeaders()) {
		t.field("", "  < "+name+": "+a.GetResponseHeaders()[name])
	}
	if body := a.GetResponseBody(); len(body) > 0 {
		t.field("", "  < "+excerpt(body))
	}
	if a.GetNextAttemptTime() != nil {
		t.field("", "next attempt "+stamp(a.GetNextAttemptTime()))
	}
}

// phases is where an attempt's time went.
func phases(a *postriderv1.Attempt) string {
	w := a.GetTimings()
	var words []string
	if w.GetReused() {
		words = append(words, "connection reused")
	}
	for _, phase := range []struct {
		name string
		took *durationpb.Duration
	}{{"dns", w.GetDns()}, {"connect", w.GetConnect()}, {"tls", w.GetTls()}, {"first byte", w.GetFirstByte()}} {
		if phase.took != nil {
			words = append(words, phase.name+" "+rounded(phase.took))
		}
	}
	return strings.Join(words, ", ")
}

func rounded(d *durationpb.Duration) string {
	return d.AsDuration().Round(10 * time.Microsecond).String()
}

// since is the time between two moments, as a step of a timeline begins with it.
func since(from, to *timestamppb.Timestamp) string {
	return fmt.Sprintf("%+.3fs", to.AsTime().Sub(from.AsTime()).Seconds())
}

func (p *program) deliveriesFind() *cobra.Command {
	c := &cobra.Command{
		Use:   "find ID",
		Short: "Say what an id is and where it is",
		Long: `Say what an id is and where it is: of an event, a delivery, an attempt, a webhook, a replay or a
call, an idempotency key, a producer's own id, or a trace id.`,
		Example: "  postrider deliveries find order-4711",
		Args:    cobra.ExactArgs(1),
	}
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		resp, err := cl.log.LookUp(ctx, &postriderv1.LookUpRequest{AccountId: cl.account, Id: args[0]})
		if err != nil {
			return err
		}
		return p.show(resp, func(t *table) {
			t.row("KIND", "TIME", "TYPE", "EVENT", "DELIVERY", "WEBHOOK", "STATE")
			for _, m := range resp.GetMatches() {
				t.row(enum(m.GetKind(), kindPrefix), cell(stamp(m.GetTime())), cell(m.GetEventType()), cell(m.GetEventId()), cell(m.GetDeliveryId()),
					cell(m.GetWebhookId()), cell(enum(m.GetState(), statePrefix)))
			}
		})
	})
	return c
}

func (p *program) deliveriesExpunge() *cobra.Command {
	c := &cobra.Command{
		Use:   "expunge EVENT",
		Short: "Remove an event's payload and recorded bodies for good",
		Long: `Remove an event's payload, the recorded bodies of its attempts and its dead letters from the streams
and from the log, for good. That it happened stays known. All its deliveries must have ended: cancel
them first. It takes two minutes from the last attempt until this is possible.`,
		Example: "  postrider deliveries expunge evt_01HF7YAT00ZZZZZZZZZZZZZZZZ",
		Args:    cobra.ExactArgs(1),
	}
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		resp, err := cl.log.ExpungeEvent(ctx, &postriderv1.ExpungeEventRequest{AccountId: cl.account, EventId: args[0]})
		if err != nil {
			return err
		}
		return p.done(resp, "expunged %s: %d dead letters, bodies of %d attempts", args[0], resp.GetDeadLettersRemoved(), resp.GetAttemptsRedacted())
	})
	return c
}
