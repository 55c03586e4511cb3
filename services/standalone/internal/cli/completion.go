package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const (
	// completionTimeout bounds what a shell waits for, after somebody pressed a key.
	completionTimeout = 2 * time.Second
	// recentMany is how many of those things are offered of which there is no end.
	recentMany = 50
)

// offer finds what may stand in a place, as cobra has completions. An error offers nothing.
type offer func(ctx context.Context, cl *client) ([]string, error)

// argumentOffers are what an argument may be, by the word that the help has for it.
var argumentOffers = map[string]offer{
	"ACCOUNT":  offerAccounts,
	"DELIVERY": offerDeliveries,
	"EVENT":    offerEvents,
	"ID":       anyOf(offerEvents, offerDeliveries),
	"KEY_ID":   offerKeys,
	"REPLAY":   offerReplays,
	"TYPE":     offerTypes,
	"WEBHOOK":  offerWebhooks,
}

// flagOffers are what the value of a flag may be.
var flagOffers = map[string]offer{
	"account": offerAccounts,
	"event":   offerEvents,
	"events":  offerTypes,
	"type":    offerTypes,
	"webhook": offerWebhooks,
}

// flagWords are the flags that are one word of a few.
var flagWords = map[string][]string{
	"cause":         {"exhausted", "permanent", "expired"},
	"class":         {"free", "standard", "premium", "internal"},
	"method":        {"POST", "GET"},
	"outcome":       {"succeeded", "retryable", "permanent", "gone"},
	"output":        {outputTable, outputJSON},
	"profile":       checkable(),
	"retry-basis":   words("DELAY_BASIS_", postriderv1.DelayBasis_value),
	"schema-policy": sortedKeys(schemaPolicies),
	"scope":         {"publish", "manage", "read", "payloads"},
	"secret-kind":   {"hmac", "ed25519"},
	"state":         words(statePrefix, postriderv1.DeliveryState_value),
	"step":          {"all", "add", "promote", "prune"},
	"unknown-types": words(policyPrefix, postriderv1.UnknownTypePolicy_value),
}

// folderFlags and fileFlags name what is on this machine, which the shell knows best.
var (
	folderFlags = []string{"data-dir"}
	fileFlags   = []string{"file", "out", "config"}
)

// complete gives every command of the tree its completions.
func (p *program) complete(c *cobra.Command) {
	if c.ValidArgsFunction == nil {
		c.ValidArgsFunction = p.arguments(c)
	}
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if _, has := c.GetFlagCompletionFunc(f.Name); has {
			return
		}
		if fn := p.flagValue(f); fn != nil {
			_ = c.RegisterFlagCompletionFunc(f.Name, fn) // the flag is there, and has none yet
		}
	})
	for _, sub := range c.Commands() {
		p.complete(sub)
	}
}

// flagValue completes a flag; nil leaves it to the shell, which offers files.
func (p *program) flagValue(f *pflag.Flag) cobra.CompletionFunc {
	fn := nothing
	switch {
	case flagWords[f.Name] != nil:
		fn = func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			return beginning(flagWords[f.Name], typed), cobra.ShellCompDirectiveNoFileComp
		}
	case flagOffers[f.Name] != nil:
		fn = p.asking(flagOffers[f.Name])
	case slices.Contains(folderFlags, f.Name):
		return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		}
	case slices.Contains(fileFlags, f.Name) || strings.HasSuffix(f.Name, "-file"):
		return nil
	}
	if f.Value.Type() != "stringSlice" {
		return fn
	}
	return func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		before, last := "", typed
		if i := strings.LastIndexByte(typed, ','); i >= 0 {
			before, last = typed[:i+1], typed[i+1:]
		}
		list, directive := fn(c, args, last)
		for i := range list {
			list[i] = before + list[i]
		}
		return list, directive
	}
}

func nothing(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// arguments completes the arguments of a command by what its help calls them: "cancel DELIVERY|EVENT".
func (p *program) arguments(c *cobra.Command) cobra.CompletionFunc {
	_, names, _ := strings.Cut(c.Use, " ")
	repeated := strings.Contains(names, "...")
	names = strings.Trim(names, "[]. ")
	switch names {
	case "FILE":
		return cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
	case "DIR":
		return cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
	case "NAME":
		if c.Parent() == nil || c.Parent().Name() != "event-types" {
			return nothing
		}
		names = "TYPE"
	}
	var offers []offer
	for name := range strings.SplitSeq(names, "|") {
		o := argumentOffers[strings.TrimSpace(name)]
		if name == "DELIVERY" && c.HasParent() && c.Parent().Name() == "dead-letters" {
			o = offerDeadLetters
		}
		if o != nil {
			offers = append(offers, o)
		}
	}
	if len(offers) == 0 {
		return nothing
	}
	ask := p.asking(anyOf(offers...))
	return func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 && !repeated {
			return nothing(c, args, typed)
		}
		list, directive := ask(c, args, typed)
		return slices.DeleteFunc(list, func(item string) bool {
			id, _, _ := strings.Cut(item, "\t")
			return slices.Contains(args, id)
		}), directive
	}
}

// asking completes with what the server has. Without one, or without the right to see it, it offers
// nothing: there is nobody to tell why.
func (p *program) asking(o offer) cobra.CompletionFunc {
	return func(c *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(c.Context(), completionTimeout)
		defer cancel()
		p.globals.timeout = completionTimeout
		cl, err := p.connect()
		if err != nil {
			return nothing(c, nil, typed)
		}
		defer cl.close()
		list, err := o(ctx, cl)
		if err != nil {
			return nothing(c, nil, typed)
		}
		return beginning(list, typed), cobra.ShellCompDirectiveNoFileComp
	}
}

// beginning are those that begin with what was typed.
func beginning(list []string, typed string) []string {
	out := make([]string, 0, len(list))
	for _, item := range list {
		if strings.HasPrefix(item, typed) {
			out = append(out, item)
		}
	}
	return out
}

// anyOf offers what several do. One that fails leaves the others.
func anyOf(offers ...offer) offer {
	return func(ctx context.Context, cl *client) ([]string, error) {
		var all []string
		var last error
		for _, o := range offers {
			list, err := o(ctx, cl)
			if err != nil {
				last = err
			}
			all = append(all, list...)
		}
		if len(all) == 0 {
			return nil, last
		}
		return all, nil
	}
}

// described makes a completion of each thing.
func described[T any](list []T, err error, id, about func(T) string) ([]string, error) {
	out := make([]string, len(list))
	for i, item := range list {
		out[i] = cobra.CompletionWithDesc(id(item), printable(about(item)))
	}
	return out, err
}

func offerAccounts(ctx context.Context, cl *client) ([]string, error) {
	resp, err := cl.accounts.ListAccounts(ctx, &postriderv1.ListAccountsRequest{PageSize: maxPage})
	return described(resp.GetAccounts(), err, (*postriderv1.Account).GetId, (*postriderv1.Account).GetDisplayName)
}

func offerWebhooks(ctx context.Context, cl *client) ([]string, error) {
	resp, err := cl.webhooks.ListWebhooks(ctx, &postriderv1.ListWebhooksRequest{AccountId: cl.account, PageSize: maxPage})
	return described(resp.GetWebhooks(), err, (*postriderv1.Webhook).GetId, (*postriderv1.Webhook).GetDisplayName)
}

func offerTypes(ctx context.Context, cl *client) ([]string, error) {
	resp, err := cl.eventTypes.ListEventTypes(ctx, &postriderv1.ListEventTypesRequest{AccountId: cl.account, PageSize: maxPage})
	return described(resp.GetEventTypes(), err, (*postriderv1.EventType).GetName, (*postriderv1.EventType).GetDescription)
}

func offerKeys(ctx context.Context, cl *client) ([]string, error) {
	resp, err := cl.accounts.ListApiKeys(ctx, &postriderv1.ListApiKeysRequest{AccountId: cl.account, PageSize: maxPage})
	return described(resp.GetApiKeys(), err, (*postriderv1.ApiKey).GetId, (*postriderv1.ApiKey).GetDisplayName)
}

func offerReplays(ctx context.Context, cl *client) ([]string, error) {
	resp, err := cl.replays.ListReplays(ctx, &postriderv1.ListReplaysRequest{AccountId: cl.account, PageSize: recentMany})
	return described(resp.GetReplays(), err, (*postriderv1.Replay).GetId, func(r *postriderv1.Replay) string {
		return enum(r.GetState(), replayStatePrefix) + " " + stamp(r.GetCreateTime())
	})
}

func offerEvents(ctx context.Context, cl *client) ([]string, error) {
	resp, err := cl.log.ListRecordedEvents(ctx, &postriderv1.ListRecordedEventsRequest{AccountId: cl.account, PageSize: recentMany})
	return described(resp.GetEvents(), err, (*postriderv1.RecordedEvent).GetId, func(e *postriderv1.RecordedEvent) string {
		return e.GetType() + " " + stamp(e.GetAcceptTime())
	})
}

func offerDeliveries(ctx context.Context, cl *client) ([]string, error) {
	resp, err := cl.deliveries.ListDeliveries(ctx, &postriderv1.ListDeliveriesRequest{AccountId: cl.account, PageSize: recentMany})
	return described(resp.GetDeliveries(), err, (*postriderv1.Delivery).GetId, func(d *postriderv1.Delivery) string {
		return enum(d.GetState(), statePrefix) + " " + d.GetEventType() + " " + stamp(d.GetCreateTime())
	})
}

func offerDeadLetters(ctx context.Context, cl *client) ([]string, error) {
	resp, err := cl.deliveries.ListDeadLetters(ctx, &postriderv1.ListDeadLettersRequest{AccountId: cl.account, PageSize: recentMany})
	return described(resp.GetDeadLetters(), err, (*postriderv1.DeadLetter).GetDeliveryId, func(d *postriderv1.DeadLetter) string {
		return d.GetCause() + " " + d.GetEventType() + " " + stamp(d.GetCreateTime())
	})
}
