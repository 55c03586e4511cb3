package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func (p *program) auditCommand() *cobra.Command {
	var limit int
	var admin bool
	c := &cobra.Command{
		Use:   "audit",
		Short: "List who changed what, newest first",
		Long: `List who changed what, newest first: every call that changed something or was to, and every look at
a secret, whichever way it came in. Values are not kept.`,
		Example: "  postrider audit\n  postrider audit --admin --limit 0 -o json",
		Args:    cobra.NoArgs,
	}
	limitFlag(c, &limit)
	c.Flags().BoolVar(&admin, "admin", false, "of what belongs to no account, such as admin keys")
	c.RunE = p.remote(func(ctx context.Context, cl *client, _ []string) error {
		account := cl.account
		if admin {
			account = ""
		} else if err := cl.needsAccount(); err != nil {
			return err
		}
		list, next, err := pages(limit, func(size int32, token string) ([]*postriderv1.AuditEntry, string, error) {
			resp, err := cl.audit.ListAuditEntries(ctx, &postriderv1.ListAuditEntriesRequest{AccountId: account, PageSize: size, PageToken: token})
			return resp.GetEntries(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		defer p.more(len(list), next)
		return p.show(&postriderv1.ListAuditEntriesResponse{Entries: list, NextPageToken: next}, func(t *table) {
			t.row("TIME", "KEY", "METHOD", "ABOUT", "FIELDS", "REFUSED", "REQUEST")
			for _, e := range list {
				t.row(stamp(e.GetTime()), e.GetApiKeyId(), e.GetMethod(), cell(strings.Join(e.GetTargets(), ",")), cell(strings.Join(e.GetFields(), ",")),
					cell(e.GetErrorReason()), e.GetRequestId())
			}
		})
	})
	return c
}
