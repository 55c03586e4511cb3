package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func (p *program) portalLinkCommand() *cobra.Command {
	var lifetime time.Duration
	var readOnly bool
	c := &cobra.Command{
		Use:   "portal-link",
		Short: "Make a link to the portal of an account",
		Long: `Make a link that opens the portal of the account: its webhooks with their secrets, deliveries, tests and
replays, and nothing of another account. Whoever has the link can use it until it stops working; it cannot
be taken back.`,
		Example: "  postrider portal-link --lifetime 30m\n  postrider portal-link --read-only",
		Args:    cobra.NoArgs,
	}
	c.Flags().DurationVar(&lifetime, "lifetime", time.Hour, "how long the link and what it opens work, 1m to 24h")
	c.Flags().BoolVar(&readOnly, "read-only", false, "whether the portal shows and changes nothing")
	c.RunE = p.remote(func(ctx context.Context, cl *client, _ []string) error {
		if err := cl.needsAccount(); err != nil {
			return err
		}
		resp, err := cl.accounts.CreatePortalLink(ctx, &postriderv1.CreatePortalLinkRequest{
			AccountId: cl.account, Lifetime: durationpb.New(lifetime), ReadOnly: readOnly,
		})
		if err != nil {
			return err
		}
		return p.show(resp, func(t *table) {
			t.field("url", resp.GetUrl())
			t.field("works until", stamp(resp.GetExpireTime()))
		})
	})
	return c
}
