package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func (p *program) accountsCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "accounts",
		Short: "Make, list and change accounts",
		Long: `An account owns events, webhooks, event types and keys, and is kept apart from all others.
Only an admin key makes, lists and changes accounts.`,
	}, p.accountsCreate(), p.accountsList(), p.accountsGet(), p.accountsUpdate())
}

const policyPrefix = "UNKNOWN_TYPE_POLICY_"

func (p *program) accountsCreate() *cobra.Command {
	var flags accountFlags
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Make an account",
		Example: `  postrider accounts create "JewelMusic"
  postrider accounts create "Radio Nine" --subdomain radionine --time-zone Australia/Melbourne
  postrider accounts create "Strict" --unknown-types reject --dedup-window 1h
  postrider accounts create "Trial" --class free --max-in-flight 20 --rate-limit 50`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	flags.add(f)
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		acc, _, err := flags.account(f)
		if err != nil {
			return err
		}
		acc.DisplayName = args[0]
		resp, err := cl.accounts.CreateAccount(ctx, &postriderv1.CreateAccountRequest{Account: acc})
		if err != nil {
			return err
		}
		return p.show(resp.GetAccount(), func(t *table) { accountFields(t, resp.GetAccount()) })
	})
	return c
}

func (p *program) accountsUpdate() *cobra.Command {
	var flags accountFlags
	var name, etag string
	c := &cobra.Command{
		Use:   "update ACCOUNT",
		Short: "Change an account",
		Long:  "Change what is named by flags and nothing else. A limit of 0 removes it.",
		Example: `  postrider accounts update acc_01HF7YAT00ZZZZZZZZZZZZZZZZ --max-in-flight 100 --rate-limit 500
  postrider accounts update acc_01HF7YAT00ZZZZZZZZZZZZZZZZ --rate-limit 0`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	flags.add(f)
	f.StringVar(&name, "name", "", "for people")
	f.StringVar(&etag, "etag", "", "change it only if this is still its etag")
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		acc, mask, err := flags.account(f)
		if err != nil {
			return err
		}
		if f.Changed("name") {
			acc.DisplayName = name
			mask.Paths = append(mask.Paths, "display_name")
		}
		if len(mask.GetPaths()) == 0 {
			return usagef("name what is to change, such as --rate-limit or --name")
		}
		acc.Id, acc.Etag = args[0], etag
		resp, err := cl.accounts.UpdateAccount(ctx, &postriderv1.UpdateAccountRequest{Account: acc, UpdateMask: mask})
		if err != nil {
			return err
		}
		return p.show(resp.GetAccount(), func(t *table) { accountFields(t, resp.GetAccount()) })
	})
	return c
}

func (p *program) accountsList() *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use:     "list",
		Short:   "List accounts",
		Example: "  postrider accounts list",
		Args:    cobra.NoArgs,
	}
	limitFlag(c, &limit)
	c.RunE = p.remote(func(ctx context.Context, cl *client, _ []string) error {
		list, next, err := pages(limit, func(size int32, token string) ([]*postriderv1.Account, string, error) {
			resp, err := cl.accounts.ListAccounts(ctx, &postriderv1.ListAccountsRequest{PageSize: size, PageToken: token})
			return resp.GetAccounts(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		defer p.more(len(list), next)
		return p.show(&postriderv1.ListAccountsResponse{Accounts: list, NextPageToken: next}, func(t *table) {
			t.row("ID", "NUMBER", "NAME", "SUBDOMAIN", "CLASS", "CREATED")
			for _, a := range list {
				t.row(a.GetId(), strconv.FormatInt(a.GetNumber(), 10), a.GetDisplayName(), a.GetSubdomain(), a.GetAccountClass(), stamp(a.GetCreateTime()))
			}
		})
	})
	return c
}

func (p *program) accountsGet() *cobra.Command {
	c := &cobra.Command{
		Use:     "get [ACCOUNT]",
		Short:   "Show an account",
		Long:    "Show an account: the one that is named, or the one of --account.",
		Example: "  postrider accounts get acc_01HF7YAT00ZZZZZZZZZZZZZZZZ",
		Args:    cobra.MaximumNArgs(1),
	}
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		id := cl.account
		if len(args) > 0 {
			id = args[0]
		}
		if id == "" {
			return usagef("name the account, here or with --account")
		}
		resp, err := cl.accounts.GetAccount(ctx, &postriderv1.GetAccountRequest{AccountId: id})
		if err != nil {
			return err
		}
		return p.show(resp.GetAccount(), func(t *table) { accountFields(t, resp.GetAccount()) })
	})
	return c
}

func accountFields(t *table, a *postriderv1.Account) {
	t.field("id", a.GetId())
	t.field("number", strconv.FormatInt(a.GetNumber(), 10))
	t.field("name", a.GetDisplayName())
	t.field("subdomain", a.GetSubdomain())
	t.field("time zone", a.GetTimeZone())
	t.field("unknown types", enum(a.GetUnknownTypePolicy(), policyPrefix))
	t.field("dedup window", span(a.GetDedupWindow()))
	t.field("class", a.GetAccountClass())
	if a.AllowHttp != nil {
		t.field("allow http", strconv.FormatBool(a.GetAllowHttp()))
	}
	if n := a.GetMaxInFlight(); n > 0 {
		t.field("max in flight", strconv.Itoa(int(n)))
	}
	if rate := a.GetRateLimit(); rate > 0 {
		t.field("rate limit", strconv.FormatFloat(rate, 'g', -1, 64)+"/s")
	}
	t.field("created", stamp(a.GetCreateTime()))
	t.field("updated", stamp(a.GetUpdateTime()))
	t.field("etag", a.GetEtag())
}

// limitFlag adds --limit to a list.
func limitFlag(c *cobra.Command, limit *int) {
	const def = 100
	c.Flags().IntVar(limit, "limit", def, fmt.Sprintf("at most so many; 0 for all, %d a call", maxPage))
}
