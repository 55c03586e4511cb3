package console

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func listKeys(p *page) error { return p.keys(http.StatusOK, nil) }

func (p *page) keys(status int, extra map[string]any) error {
	resp, err := p.api.accounts.ListApiKeys(p.ctx, &postriderv1.ListApiKeysRequest{AccountId: p.accountID(), PageSize: 200, PageToken: p.query("page")})
	if err != nil {
		return err
	}
	f := formFields{words: p.pages.words, form: "keys", values: p.r.PostForm}
	if errs, ok := extra["Errors"].(map[string]string); ok {
		f.errors = errs
	}
	data := map[string]any{
		"Keys": resp.GetApiKeys(), "Pager": p.pagerOf(resp.GetNextPageToken()), "Own": p.session.KeyID,
		"Scopes": scopeChoices{chosen: p.r.PostForm["scopes"], Error: f.errors["scopes"]},
	}
	data["Fields"] = []field{f.text("display_name"), f.choose("days", f.named("", "1", "30", "90", "365")...)}
	maps.Copy(data, extra)
	return p.render(status, "keys", p.pages.words.get("nav.keys"), data)
}

func createKey(p *page) error {
	req := &postriderv1.CreateApiKeyRequest{AccountId: p.accountID(), DisplayName: p.form("display_name"), Scopes: p.r.PostForm["scopes"]}
	if days, err := strconv.Atoi(p.form("days")); err == nil && days > 0 {
		req.ExpireTime = timestamppb.New(p.deps.Now().Add(time.Duration(days) * 24 * time.Hour))
	}
	resp, err := p.api.accounts.CreateApiKey(p.ctx, req)
	if errs, refused := keyRefused(err, ""); refused {
		return p.keys(http.StatusUnprocessableEntity, map[string]any{"Errors": errs})
	}
	if err != nil {
		return err
	}
	say := p.ok("keys.created")
	say.Secret, say.Label = resp.GetSecret(), p.pages.words.get("keys.value")
	return p.redirect("keys", say)
}

// scopeChoices are what a key may do, to choose from.
type scopeChoices struct {
	chosen []string
	Error  string
}

// All are the scopes that a key of an account can have, with what is chosen.
func (c scopeChoices) All() []scopeChoice {
	var all []scopeChoice
	for _, name := range []string{"publish", "manage", "read", "payloads"} {
		all = append(all, scopeChoice{name, slices.Contains(c.chosen, name)})
	}
	return all
}

type scopeChoice struct {
	Name   string
	Chosen bool
}

// keyRefused are the faults of a key by field. A scope that the reader lacks is one of them: the rest
// of the form can be right.
func keyRefused(err error, prefix string) (map[string]string, bool) {
	e, ok := fault.As(fault.FromStatus(err))
	if ok && e.Kind == fault.Denied && e.Metadata["scope"] != "" && e.Metadata["scope"] != scopeManage {
		return map[string]string{"scopes": e.Message}, true
	}
	return violations(err, prefix)
}

// maxKeyPages bounds how far the key of an address is looked for.
const maxKeyPages = 20

// key is the account's key that the address names.
func (p *page) key() (*postriderv1.ApiKey, error) {
	req := &postriderv1.ListApiKeysRequest{AccountId: p.accountID(), PageSize: 1000}
	for range maxKeyPages {
		resp, err := p.api.accounts.ListApiKeys(p.ctx, req)
		if err != nil {
			return nil, err
		}
		for _, k := range resp.GetApiKeys() {
			if k.GetId() == p.r.PathValue("key") {
				return k, nil
			}
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	return nil, errNoPage
}

func editKey(p *page) error {
	k, err := p.key()
	if err != nil {
		return err
	}
	return p.keyPage(http.StatusOK, k, url.Values{"display_name": {k.GetDisplayName()}, "scopes": k.GetScopes()}, nil)
}

func (p *page) keyPage(status int, k *postriderv1.ApiKey, values url.Values, errs map[string]string) error {
	f := formFields{words: p.pages.words, form: "keys", values: values, errors: errs}
	return p.render(status, "key_form", p.pages.words.get("keys.edit"), map[string]any{
		"Key": k, "Own": k.GetId() == p.session.KeyID, "Errors": errs, "Fields": []field{f.text("display_name")},
		"Scopes": scopeChoices{chosen: values["scopes"], Error: errs["scopes"]},
	})
}

// updateKey changes a key's name and what it may do. A reader who changes the key that they signed in
// with goes on with what it may do now.
func updateKey(p *page) error {
	k, err := p.key()
	if err != nil {
		return err
	}
	resp, err := p.api.accounts.UpdateApiKey(p.ctx, &postriderv1.UpdateApiKeyRequest{
		AccountId:  p.accountID(),
		ApiKey:     &postriderv1.ApiKey{Id: k.GetId(), DisplayName: p.form("display_name"), Scopes: p.r.PostForm["scopes"]},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"display_name", "scopes"}},
	})
	if errs, refused := keyRefused(err, "api_key."); refused {
		return p.keyPage(http.StatusUnprocessableEntity, k, p.r.PostForm, errs)
	}
	if err != nil {
		return err
	}
	target := "keys"
	if k.GetId() == p.session.KeyID {
		p.session.Scopes = resp.GetApiKey().GetScopes()
		if err := p.keepSession(p.w, p.r, p.site, p.session); err != nil {
			return err
		}
		if !p.session.CanManage() {
			target = ""
		}
	}
	return p.redirect(target, p.ok("keys.saved"))
}

func deleteKey(p *page) error {
	if _, err := p.api.accounts.DeleteApiKey(p.ctx, &postriderv1.DeleteApiKeyRequest{AccountId: p.accountID(), ApiKeyId: p.r.PathValue("key")}); err != nil {
		return err
	}
	return p.redirect("keys", p.ok("keys.deleted"))
}

// createPortalLink makes a link to the portal of this account, for its owner.
func createPortalLink(p *page) error {
	hours, err := strconv.Atoi(p.form("hours"))
	if err != nil {
		hours = 1
	}
	resp, err := p.api.accounts.CreatePortalLink(p.ctx, &postriderv1.CreatePortalLinkRequest{
		AccountId: p.accountID(), Lifetime: durationpb.New(time.Duration(hours) * time.Hour), ReadOnly: p.form("read_only") != "",
	})
	if errs, refused := violations(err, ""); refused {
		return p.keys(http.StatusUnprocessableEntity, map[string]any{"Errors": errs})
	}
	if err != nil {
		return err
	}
	link := resp.GetUrl()
	if p.deps.PublicURL == "" {
		link = p.deps.PublicURL.Of(p.r) + link
	}
	return p.keys(http.StatusOK, map[string]any{"Link": link, "LinkExpires": resp.GetExpireTime()})
}

func listAudit(p *page) error {
	resp, err := p.api.audit.ListAuditEntries(p.ctx, &postriderv1.ListAuditEntriesRequest{AccountId: p.accountID(), PageToken: p.query("page")})
	if err != nil {
		return err
	}
	return p.render(http.StatusOK, "audit", p.pages.words.get("nav.audit"), map[string]any{"Entries": resp.GetEntries(), "Pager": p.pagerOf(resp.GetNextPageToken())})
}
