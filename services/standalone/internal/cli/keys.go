package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func (p *program) keysCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "keys",
		Short: "Make, change and revoke credentials",
		Long: `A key is a bearer credential of an account with one or more scopes:

  publish   publish events, and nothing else
  manage    change webhooks, event types, keys and deliveries, and read
  read      read, with payloads masked
  payloads  see payloads; manage includes it

An admin key belongs to no account and may do everything.`,
	}, p.keysCreate(), p.keysList(), p.keysUpdate(), p.keysDelete())
}

func (p *program) keysCreate() *cobra.Command {
	var scopes []string
	var expires string
	var admin bool
	c := &cobra.Command{
		Use:   "create [NAME]",
		Short: "Make a key and show it, once",
		Example: `  postrider keys create "order service" --scope publish
  postrider keys create "deploy" --scope manage,read --expires +2160h
  postrider keys create "operator" --admin`,
		Args: cobra.MaximumNArgs(1),
	}
	f := c.Flags()
	f.StringSliceVar(&scopes, "scope", nil, "publish, manage, read, payloads; can be repeated")
	f.StringVar(&expires, "expires", "", "when it stops working, such as +720h or 2027-01-01T00:00:00Z; default: never")
	f.BoolVar(&admin, "admin", false, "make an admin key")
	c.MarkFlagsMutuallyExclusive("scope", "admin")
	c.MarkFlagsOneRequired("scope", "admin")
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		when, err := moment("--expires", expires, p.now())
		if err != nil {
			return err
		}
		req := &postriderv1.CreateApiKeyRequest{AccountId: cl.account, Scopes: scopes, ExpireTime: when, DisplayName: strings.Join(args, " ")}
		if admin {
			req.AccountId, req.Scopes = "", []string{"admin"}
		} else if err := cl.needsAccount(); err != nil {
			return err
		}
		resp, err := cl.accounts.CreateApiKey(ctx, req)
		if err != nil {
			return err
		}
		return p.show(resp, func(t *table) {
			keyFields(t, resp.GetApiKey())
			t.field("key", resp.GetSecret())
			t.line("")
			t.line("Keep the key now: it is not shown again.")
		})
	})
	return c
}

func keyFields(t *table, k *postriderv1.ApiKey) {
	t.field("id", k.GetId())
	t.field("account", k.GetAccountId())
	t.field("name", k.GetDisplayName())
	t.field("scopes", strings.Join(k.GetScopes(), ","))
	t.field("created", stamp(k.GetCreateTime()))
	t.field("expires", stamp(k.GetExpireTime()))
}

func (p *program) keysList() *cobra.Command {
	var limit int
	var admin bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "List keys, without what they are",
		Example: "  postrider keys list\n  postrider keys list --admin",
		Args:    cobra.NoArgs,
	}
	limitFlag(c, &limit)
	c.Flags().BoolVar(&admin, "admin", false, "list admin keys")
	c.RunE = p.remote(func(ctx context.Context, cl *client, _ []string) error {
		account := cl.account
		if admin {
			account = ""
		} else if err := cl.needsAccount(); err != nil {
			return err
		}
		list, next, err := pages(limit, func(size int32, token string) ([]*postriderv1.ApiKey, string, error) {
			resp, err := cl.accounts.ListApiKeys(ctx, &postriderv1.ListApiKeysRequest{AccountId: account, PageSize: size, PageToken: token})
			return resp.GetApiKeys(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		defer p.more(len(list), next)
		return p.show(&postriderv1.ListApiKeysResponse{ApiKeys: list, NextPageToken: next}, func(t *table) {
			t.row("ID", "NAME", "SCOPES", "CREATED", "EXPIRES")
			for _, k := range list {
				t.row(k.GetId(), cell(k.GetDisplayName()), strings.Join(k.GetScopes(), ","), stamp(k.GetCreateTime()), cell(stamp(k.GetExpireTime())))
			}
		})
	})
	return c
}

func (p *program) keysUpdate() *cobra.Command {
	var scopes []string
	var name string
	var admin bool
	c := &cobra.Command{
		Use:   "update KEY_ID",
		Short: "Change what a key may do, or its name",
		Long:  "Change what a key may do, or its name. The key itself stays the same, and the change is in force when the\ncommand returns.",
		Example: `  postrider keys update key_01HF7YAT00ZZZZZZZZZZZZZZZZ --scope read
  postrider keys update key_01HF7YAT00ZZZZZZZZZZZZZZZZ --name "order service"`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.StringSliceVar(&scopes, "scope", nil, "publish, manage, read, payloads; can be repeated, and replaces what it may do now")
	f.StringVar(&name, "name", "", "its new name")
	f.BoolVar(&admin, "admin", false, "change an admin key")
	c.MarkFlagsOneRequired("scope", "name")
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		req := &postriderv1.UpdateApiKeyRequest{
			AccountId: cl.account, ApiKey: &postriderv1.ApiKey{Id: args[0], DisplayName: name, Scopes: scopes}, UpdateMask: &fieldmaskpb.FieldMask{},
		}
		if admin {
			req.AccountId = ""
		} else if err := cl.needsAccount(); err != nil {
			return err
		}
		for flag, path := range map[string]string{"scope": "scopes", "name": "display_name"} {
			if f.Changed(flag) {
				req.UpdateMask.Paths = append(req.UpdateMask.Paths, path)
			}
		}
		resp, err := cl.accounts.UpdateApiKey(ctx, req)
		if err != nil {
			return err
		}
		return p.show(resp, func(t *table) { keyFields(t, resp.GetApiKey()) })
	})
	return c
}

func (p *program) keysDelete() *cobra.Command {
	var admin bool
	c := &cobra.Command{
		Use:     "delete KEY_ID",
		Short:   "Revoke a key",
		Long:    "Revoke a key. It has stopped working when the command returns.",
		Example: "  postrider keys delete key_01HF7YAT00ZZZZZZZZZZZZZZZZ",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().BoolVar(&admin, "admin", false, "revoke an admin key")
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		account := cl.account
		if admin {
			account = ""
		} else if err := cl.needsAccount(); err != nil {
			return err
		}
		resp, err := cl.accounts.DeleteApiKey(ctx, &postriderv1.DeleteApiKeyRequest{AccountId: account, ApiKeyId: args[0]})
		if err != nil {
			return err
		}
		return p.done(resp, "deleted %s", args[0])
	})
	return c
}
