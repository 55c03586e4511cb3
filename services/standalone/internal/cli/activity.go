package cli

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func (p *program) activityCommand() *cobra.Command {
	var webhook, since, until string
	var step time.Duration
	c := &cobra.Command{
		Use:   "activity",
		Short: "Count attempts over time, and say how long they took",
		Example: `  postrider activity
  postrider activity --webhook wh_01HF7YAT00ZZZZZZZZZZZZZZZZ --since -24h --step 1h`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&webhook, "webhook", "", "of this webhook")
	f.StringVar(&since, "since", "-1h", "begun at or after, such as -1h or 2026-11-21T18:00:00Z")
	f.StringVar(&until, "until", "", "begun before; default: now")
	f.DurationVar(&step, "step", 5*time.Minute, "length of a step, whole minutes")
	c.RunE = p.remote(func(ctx context.Context, cl *client, _ []string) (err error) {
		req := &postriderv1.GetActivityRequest{AccountId: cl.account, WebhookId: webhook, Step: durationpb.New(step)}
		if req.StartTime, err = moment("--since", since, p.now()); err != nil {
			return err
		}
		if req.EndTime, err = moment("--until", until, p.now()); err != nil {
			return err
		}
		resp, err := cl.activity.GetActivity(ctx, req)
		if err != nil {
			return err
		}
		return p.show(resp, func(t *table) {
			t.row("FROM", "SUCCEEDED", "FAILED", "SUCCESS", "P50", "P99")
			for _, point := range resp.GetPoints() {
				activityRow(t, stamp(point.GetTime()), point)
			}
			activityRow(t, "total", resp.GetTotal())
		})
	})
	return c
}

func activityRow(t *table, name string, a *postriderv1.ActivityPoint) {
	ratio := ""
	if all := a.GetSucceeded() + a.GetFailed(); all > 0 {
		ratio = fmt.Sprintf("%.2f%%", float64(a.GetSucceeded())/float64(all)*100)
	}
	t.row(name, strconv.FormatInt(a.GetSucceeded(), 10), strconv.FormatInt(a.GetFailed(), 10), cell(ratio), cell(took(a.GetP50())), cell(took(a.GetP99())))
}

// took is how long an attempt took, without digits that say nothing; empty if it is absent.
func took(d *durationpb.Duration) string {
	if d == nil {
		return ""
	}
	return d.AsDuration().Round(10 * time.Microsecond).String()
}
