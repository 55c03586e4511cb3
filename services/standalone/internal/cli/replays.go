package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/postrider/postrider/pkg/postrider"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const replayStatePrefix = "REPLAY_STATE_"

// waitTick is how often a job is looked at that a command waits for.
const waitTick = 250 * time.Millisecond

func (p *program) replaysCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "replays",
		Aliases: []string{"replay"},
		Short:   "See and abort replays and redrives",
		Long: `A replay delivers events again; "deliveries replay" begins one. A redrive makes dead letters
deliveries again; "dead-letters redrive" begins one. Both are jobs that go on whatever is restarted.`,
	}, p.replaysList(), p.replaysShow(), p.replaysAbort())
}

func (p *program) replaysList() *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use:     "list",
		Short:   "List replays and redrives, newest first",
		Example: "  postrider replays list",
		Args:    cobra.NoArgs,
	}
	limitFlag(c, &limit)
	c.RunE = p.remote(func(ctx context.Context, cl *client, _ []string) error {
		list, next, err := pages(limit, func(size int32, token string) ([]*postriderv1.Replay, string, error) {
			resp, err := cl.replays.ListReplays(ctx, &postriderv1.ListReplaysRequest{AccountId: cl.account, PageSize: size, PageToken: token})
			return resp.GetReplays(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		defer p.more(len(list), next)
		return p.show(&postriderv1.ListReplaysResponse{Replays: list, NextPageToken: next}, func(t *table) {
			t.row("ID", "KIND", "STATE", "DELIVERIES", "SKIPPED", "RATE", "CREATED", "ENDED")
			for _, r := range list {
				t.row(r.GetId(), replayKind(r), enum(r.GetState(), replayStatePrefix), strconv.FormatInt(r.GetDeliveries(), 10), strconv.FormatInt(r.GetSkipped(), 10),
					strconv.FormatFloat(r.GetRate(), 'g', -1, 64), stamp(r.GetCreateTime()), cell(stamp(r.GetEndTime())))
			}
		})
	})
	return c
}

func replayKind(r *postriderv1.Replay) string {
	if r.GetDeadLetters() != nil {
		return "redrive"
	}
	return "replay"
}

func (p *program) replaysShow() *cobra.Command {
	c := &cobra.Command{
		Use:     "show REPLAY",
		Short:   "Show a replay or a redrive",
		Example: "  postrider replays show rpl_01HF7YAT00ZZZZZZZZZZZZZZZZ",
		Args:    cobra.ExactArgs(1),
	}
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		resp, err := cl.replays.GetReplay(ctx, &postriderv1.GetReplayRequest{AccountId: cl.account, ReplayId: args[0]})
		if err != nil {
			return err
		}
		return p.showReplay(resp.GetReplay())
	})
	return c
}

func (p *program) replaysAbort() *cobra.Command {
	c := &cobra.Command{
		Use:     "abort REPLAY",
		Short:   "End a replay or a redrive after what is under way",
		Example: "  postrider replays abort rpl_01HF7YAT00ZZZZZZZZZZZZZZZZ",
		Args:    cobra.ExactArgs(1),
	}
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		resp, err := cl.replays.AbortReplay(ctx, &postriderv1.AbortReplayRequest{AccountId: cl.account, ReplayId: args[0]})
		if err != nil {
			return err
		}
		return p.showReplay(resp.GetReplay())
	})
	return c
}

func (p *program) showReplay(r *postriderv1.Replay) error {
	return p.show(r, func(t *table) {
		t.field("id", r.GetId())
		t.field("kind", replayKind(r))
		t.field("state", enum(r.GetState(), replayStatePrefix))
		t.field("deliveries", strconv.FormatInt(r.GetDeliveries(), 10))
		t.field("skipped", strconv.FormatInt(r.GetSkipped(), 10))
		t.field("rate", strconv.FormatFloat(r.GetRate(), 'g', -1, 64))
		t.field("created", stamp(r.GetCreateTime()))
		t.field("ended", stamp(r.GetEndTime()))
		t.field("trouble", r.GetTrouble())
	})
}

// jobFlags are those of the commands that begin a job.
type jobFlags struct {
	rate   float64
	dryRun bool
	wait   bool
}

func (j *jobFlags) add(f *pflag.FlagSet) {
	f.Float64Var(&j.rate, "rate", 0, "deliveries a second; default: 100")
	f.BoolVar(&j.dryRun, "dry-run", false, "count only")
	f.BoolVar(&j.wait, "wait", false, "wait until it has ended; --timeout does not bound that")
}

// expected is how many deliveries a job would make, for who watches it; 0 if nobody knows or watches.
// preview is asked for no more than that.
func (p *program) expected(j *jobFlags, preview func() (*postriderv1.ReplayPreview, error)) (int64, error) {
	if !j.wait || j.dryRun || !p.progress().live() {
		return 0, nil
	}
	would, err := preview()
	if err != nil || would.GetTruncated() {
		return 0, err
	}
	return would.GetDeliveries(), nil
}

// begun shows a job that was begun, or what it would do. It is expected to make so many deliveries.
func (p *program) begun(ctx context.Context, cl *client, j *jobFlags, r *postriderv1.Replay, preview *postriderv1.ReplayPreview, expected int64) error {
	if j.dryRun {
		return p.show(preview, func(t *table) {
			most := ""
			if preview.GetTruncated() {
				most = "at least "
			}
			t.field("selected", most+strconv.FormatInt(preview.GetSelected(), 10))
			t.field("deliveries", most+strconv.FormatInt(preview.GetDeliveries(), 10))
		})
	}
	if !j.wait {
		return p.showReplay(r)
	}
	g := p.progress()
	defer g.end()
	tick := time.NewTicker(waitTick)
	defer tick.Stop()
	for r.GetEndTime() == nil {
		done := r.GetDeliveries() + r.GetSkipped()
		g.show(replayKind(r)+" "+r.GetId(), done, expected, r.GetTrouble())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s, which goes on: %w", r.GetId(), ctx.Err())
		}
		resp, err := cl.replays.GetReplay(ctx, &postriderv1.GetReplayRequest{AccountId: cl.account, ReplayId: r.GetId()})
		if err != nil {
			return err
		}
		r = resp.GetReplay()
	}
	g.end()
	err := p.showReplay(r)
	if err == nil && r.GetState() != postriderv1.ReplayState_REPLAY_STATE_SUCCEEDED {
		return &codeError{exitFailure, errors.New("it was aborted")}
	}
	return err
}

func (p *program) deliveriesReplay() *cobra.Command {
	var job jobFlags
	var webhook, state, since, until string
	var types []string
	c := &cobra.Command{
		Use:   "replay [EVENT]",
		Short: "Deliver events again",
		Long: `Deliver an event again, or all events of a time that the other flags select: each to every webhook
that wants it now, by a new delivery. With --state, where the delivery that was made first is in that
state. What has begun goes on whatever is restarted; see "postrider replays".`,
		Example: `  postrider deliveries replay evt_01HF7YAT00ZZZZZZZZZZZZZZZZ
  postrider deliveries replay --since -1h --webhook wh_01HF7YAT00ZZZZZZZZZZZZZZZZ --dry-run
  postrider deliveries replay --since -24h --type 'order.*' --state dead --rate 50 --wait`,
		Args: cobra.MaximumNArgs(1),
	}
	f := c.Flags()
	f.StringVar(&webhook, "webhook", "", "to this webhook only")
	f.StringVar(&state, "state", "", "where the first delivery is in this state: pending, waiting, delivered, dead, cancelled or held")
	f.StringSliceVar(&types, "type", nil, "of these event types, or patterns of them")
	f.StringVar(&since, "since", "", "accepted at or after, such as -1h or 2026-11-21T18:00:00Z")
	f.StringVar(&until, "until", "", "accepted before")
	job.add(f)
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		sel := &postriderv1.EventSelection{WebhookId: webhook, EventTypes: types}
		if len(args) == 1 {
			sel.EventId = args[0]
		} else if since == "" {
			return usagef("name an event, or a time with --since")
		}
		chosen, err := choice("--state", state, statePrefix, postriderv1.DeliveryState_value)
		if err != nil {
			return err
		}
		sel.State = postriderv1.DeliveryState(chosen)
		if sel.StartTime, err = moment("--since", since, p.now()); err != nil {
			return err
		}
		if sel.EndTime, err = moment("--until", until, p.now()); err != nil {
			return err
		}
		req := &postriderv1.CreateReplayRequest{
			AccountId: cl.account, Events: sel, Rate: job.rate, DryRun: job.dryRun, ReplayId: string(postrider.NewReplayID()),
		}
		expected, err := p.expected(&job, func() (*postriderv1.ReplayPreview, error) {
			resp, err := cl.replays.CreateReplay(ctx, &postriderv1.CreateReplayRequest{AccountId: cl.account, Events: sel, DryRun: true})
			return resp.GetPreview(), err
		})
		if err != nil {
			return err
		}
		resp, err := cl.replays.CreateReplay(ctx, req)
		if err != nil {
			return err
		}
		return p.begun(ctx, cl, &job, resp.GetReplay(), resp.GetPreview(), expected)
	})
	return c
}

func (p *program) deadLettersRedrive() *cobra.Command {
	var job jobFlags
	var webhook, cause, eventType, since, until string
	var all bool
	c := &cobra.Command{
		Use:   "redrive [DELIVERY...]",
		Short: "Make dead letters deliveries again, each with a fresh schedule",
		Long: `Make the named dead letters deliveries again, or those that the flags select, each with a fresh
schedule. --all selects every one of the account.`,
		Example: `  postrider dead-letters redrive dlv_6tzpwd6c3nq2e7m5r8k1xg4v0b9h
  postrider dead-letters redrive --webhook wh_01HF7YAT00ZZZZZZZZZZZZZZZZ --dry-run
  postrider dead-letters redrive --all --cause exhausted --rate 50 --wait`,
	}
	f := c.Flags()
	f.StringVar(&webhook, "webhook", "", "of this webhook")
	f.StringVar(&cause, "cause", "", "of this cause: exhausted, permanent or expired")
	f.StringVar(&eventType, "type", "", "of this event type")
	f.StringVar(&since, "since", "", "died at or after, such as -1h or 2026-11-21T18:00:00Z")
	f.StringVar(&until, "until", "", "died before")
	f.BoolVar(&all, "all", false, "all that the other flags let pass")
	job.add(f)
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		if len(args) == 0 && !all && webhook == "" && cause == "" && eventType == "" && since == "" && until == "" {
			return usagef("name deliveries, or select with flags; --all is all of the account's")
		}
		sel := &postriderv1.DeadLetterSelection{DeliveryIds: args, WebhookId: webhook, Cause: cause, EventType: eventType}
		var err error
		if sel.StartTime, err = moment("--since", since, p.now()); err != nil {
			return err
		}
		if sel.EndTime, err = moment("--until", until, p.now()); err != nil {
			return err
		}
		req := &postriderv1.RedriveDeadLettersRequest{
			AccountId: cl.account, DeadLetters: sel, Rate: job.rate, DryRun: job.dryRun, ReplayId: string(postrider.NewReplayID()),
		}
		expected, err := p.expected(&job, func() (*postriderv1.ReplayPreview, error) {
			resp, err := cl.replays.RedriveDeadLetters(ctx, &postriderv1.RedriveDeadLettersRequest{AccountId: cl.account, DeadLetters: sel, DryRun: true})
			return resp.GetPreview(), err
		})
		if err != nil {
			return err
		}
		resp, err := cl.replays.RedriveDeadLetters(ctx, req)
		if err != nil {
			return err
		}
		return p.begun(ctx, cl, &job, resp.GetReplay(), resp.GetPreview(), expected)
	})
	return c
}

func (p *program) deadLettersSummary() *cobra.Command {
	var webhook string
	c := &cobra.Command{
		Use:     "summary",
		Short:   "Count dead letters by webhook, cause and event type",
		Example: "  postrider dead-letters summary",
		Args:    cobra.NoArgs,
	}
	c.Flags().StringVar(&webhook, "webhook", "", "of this webhook")
	c.RunE = p.remote(func(ctx context.Context, cl *client, _ []string) error {
		resp, err := cl.deliveries.SummarizeDeadLetters(ctx, &postriderv1.SummarizeDeadLettersRequest{AccountId: cl.account, WebhookId: webhook})
		if err != nil {
			return err
		}
		if n := resp.GetExpiring(); n > 0 {
			p.note("%d of %d dead letters expire soon: redrive them, or they are gone", n, resp.GetTotal())
		}
		if resp.GetTruncated() {
			p.note("there are more: the oldest %d are counted", resp.GetTotal())
		}
		return p.show(resp, func(t *table) {
			t.row("COUNT", "CAUSE", "TYPE", "WEBHOOK", "FIRST DIED", "LAST DIED", "FIRST EXPIRES")
			for _, g := range resp.GetGroups() {
				t.row(strconv.FormatInt(g.GetCount(), 10), g.GetCause(), g.GetEventType(), g.GetWebhookId(),
					stamp(g.GetOldestTime()), stamp(g.GetNewestTime()), cell(stamp(g.GetExpireTime())))
			}
		})
	})
	return c
}
