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

func (p *program) accountsCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "accounts",
		Short: "Make and list accounts",
		Long: `An account owns events, webhooks, event types and keys, and is kept apart from all others.
Only an admin key makes and lists accounts.`,
	}, p.accountsCreate(), p.accountsList(), p.accountsGet())
}

const policyPrefix = "UNKNOWN_TYPE_POLICY_"

func (p *program) accountsCreate() *cobra.Command {
	var acc postriderv1.Account
	var policy string
	var window time.Duration
	var allowHTTP bool
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Make an account",
		Example: `  postrider accounts create "JewelMusic"
  postrider accounts create "Radio Nine" --subdomain radionine --time-zone Australia/Melbourne
  postrider accounts create "Strict" --unknown-types reject --dedup-window 1h`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.StringVar(&acc.Subdomain, "subdomain", "", "its DNS label, unique over all accounts; default: made from its number")
	f.StringVar(&acc.TimeZone, "time-zone", "", "IANA time zone; default: UTC")
	f.StringVar(&policy, "unknown-types", "", "what happens to events of a type that is not in the catalogue: allow (default), warn or reject")
	f.DurationVar(&window, "dedup-window", 0, "how long an idempotency key is remembered; default: 24h")
	f.StringVar(&acc.AccountClass, "class", "", "class of service: free, standard (default), premium or internal")
	f.BoolVar(&allowHTTP, "allow-http", false, "whether its webhooks may have http URLs; default: as the deployment says")
	f.BoolVar(&acc.StrictJson, "strict-json", false, "refuse JSON data that JSON.stringify would write in another way")
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		n, err := choice("--unknown-types", policy, policyPrefix, postriderv1.UnknownTypePolicy_value)
		if err != nil {
			return err
		}
		acc.DisplayName, acc.UnknownTypePolicy = args[0], postriderv1.UnknownTypePolicy(n)
		if f.Changed("dedup-window") {
			acc.DedupWindow = durationpb.New(window)
		}
		if f.Changed("allow-http") {
			acc.AllowHttp = &allowHTTP
		}
		resp, err := cl.accounts.CreateAccount(ctx, &postriderv1.CreateAccountRequest{Account: &acc})
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
	t.field("created", stamp(a.GetCreateTime()))
	t.field("updated", stamp(a.GetUpdateTime()))
	t.field("etag", a.GetEtag())
}

// limitFlag adds --limit to a list.
func limitFlag(c *cobra.Command, limit *int) {
	const def = 100
	c.Flags().IntVar(limit, "limit", def, fmt.Sprintf("at most so many; 0 for all, %d a call", maxPage))
}
