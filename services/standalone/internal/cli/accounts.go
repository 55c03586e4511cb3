package cli

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

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

// accountFlags are the flags that say what an account is.
type accountFlags struct {
	acc                               postriderv1.Account
	policy                            string
	window, failingAfter, logRetained time.Duration
	allowHTTP                         bool
}

func (a *accountFlags) add(f *pflag.FlagSet) {
	f.StringVar(&a.acc.Subdomain, "subdomain", "", "its DNS label, unique over all accounts; default: made from its number")
	f.StringVar(&a.acc.TimeZone, "time-zone", "", "IANA time zone; default: UTC")
	f.StringVar(&a.policy, "unknown-types", "", "what happens to events of a type that is not in the catalogue: allow (default), warn or reject")
	f.DurationVar(&a.window, "dedup-window", 0, "how long an idempotency key is remembered; default: 24h")
	f.StringVar(&a.acc.AccountClass, "class", "", "class of service: free, standard (default), premium or internal")
	f.BoolVar(&a.allowHTTP, "allow-http", false, "whether its webhooks may have http URLs; default: as the deployment says")
	f.BoolVar(&a.acc.StrictJson, "strict-json", false, "refuse JSON data that JSON.stringify would write in another way")
	f.Int32Var(&a.acc.MaxInFlight, "max-in-flight", 0, "attempts at once over all of its webhooks, 1 to 65536; 0 (default): no limit")
	f.Float64Var(&a.acc.RateLimit, "rate-limit", 0, "attempts per second over all of its webhooks; 0 (default): no limit")
	f.DurationVar(&a.failingAfter, "disable-failing-after", 0, "time after which a webhook is disabled if all its attempts fail, 1h to 720h; 0s: never; default: as the deployment says")
	f.DurationVar(&a.logRetained, "log-retention", 0, "how long the delivery log keeps what has ended, 24h and more; 0s (default): as the deployment says")
}

// account is what the flags say, and which fields they name.
func (a *accountFlags) account(f *pflag.FlagSet) (*postriderv1.Account, *fieldmaskpb.FieldMask, error) {
	n, err := choice("--unknown-types", a.policy, policyPrefix, postriderv1.UnknownTypePolicy_value)
	if err != nil {
		return nil, nil, err
	}
	a.acc.UnknownTypePolicy = postriderv1.UnknownTypePolicy(n)
	mask := &fieldmaskpb.FieldMask{}
	for _, field := range []struct{ flag, name string }{
		{"name", "display_name"},
		{"subdomain", "subdomain"},
		{"time-zone", "time_zone"},
		{"unknown-types", "unknown_type_policy"},
		{"dedup-window", "dedup_window"},
		{"class", "account_class"},
		{"allow-http", "allow_http"},
		{"strict-json", "strict_json"},
		{"disable-failing-after", "disable_failing_after"},
		{"log-retention", "log_retention"},
		{"max-in-flight", "max_in_flight"},
		{"rate-limit", "rate_limit"},
	} {
		if f.Changed(field.flag) {
			mask.Paths = append(mask.Paths, field.name)
		}
	}
	if f.Changed("dedup-window") {
		a.acc.DedupWindow = durationpb.New(a.window)
	}
	if f.Changed("disable-failing-after") {
		a.acc.DisableFailingAfter = durationpb.New(a.failingAfter)
	}
	if a.logRetained != 0 {
		a.acc.LogRetention = durationpb.New(a.logRetained)
	}
	if f.Changed("allow-http") {
		a.acc.AllowHttp = &a.allowHTTP
	}
	return &a.acc, mask, nil
}

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
	c := &cobra.Command{
		Use:   "update [ACCOUNT]",
		Short: "Change an account",
		Long:  "Change what is named by flags and nothing else, of the account that is named, or the one of --account.",
		Example: `  postrider accounts update acc_01HF7YAT00ZZZZZZZZZZZZZZZZ --log-retention 168h
  postrider accounts update --name "Radio Nine" --unknown-types warn --etag 17`,
		Args: cobra.MaximumNArgs(1),
	}
	f := c.Flags()
	f.StringVar(&flags.acc.DisplayName, "name", "", "for people")
	f.StringVar(&flags.acc.Etag, "etag", "", "change it only if this is still its etag")
	flags.add(f)
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		acc, mask, err := flags.account(f)
		if err != nil {
			return err
		}
		if acc.Id, err = oneAccount(cl, args); err != nil {
			return err
		}
		if len(mask.GetPaths()) == 0 {
			return usagef("name what is to change, such as --name or --class")
		}
		resp, err := cl.accounts.UpdateAccount(ctx, &postriderv1.UpdateAccountRequest{Account: acc, UpdateMask: mask})
		if err != nil {
			return err
		}
		return p.show(resp.GetAccount(), func(t *table) { accountFields(t, resp.GetAccount()) })
	})
	return c
}

// oneAccount is the account that an argument names, or the one to work in.
func oneAccount(cl *client, args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	if cl.account == "" {
		return "", usagef("name the account, here or with --account")
	}
	return cl.account, nil
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
		id, err := oneAccount(cl, args)
		if err != nil {
			return err
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
	t.field("disable failing", span(a.GetDisableFailingAfter()))
	t.field("log retention", span(a.GetLogRetention()))
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
