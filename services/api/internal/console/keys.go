package console

import (
	"maps"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func listKeys(p *page) error { return p.keys(http.StatusOK, nil) }

func (p *page) keys(status int, extra map[string]any) error {
	resp, err := p.api.accounts.ListApiKeys(p.ctx, &postriderv1.ListApiKeysRequest{AccountId: p.accountID(), PageSize: 200, PageToken: p.query("page")})
	if err != nil {
		return err
	}
	data := map[string]any{"Keys": resp.GetApiKeys(), "Pager": p.pagerOf(resp.GetNextPageToken()), "Scopes": []string{"publish", "manage", "read"}, "Own": p.session.KeyID}
	f := formFields{words: p.pages.words, form: "keys", values: p.r.PostForm}
	if errs, ok := extra["Errors"].(map[string]string); ok {
		f.errors = errs
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
	if errs, refused := violations(err, ""); refused {
		return p.keys(http.StatusUnprocessableEntity, map[string]any{"Errors": errs})
	}
	if err != nil {
		return err
	}
	say := p.ok("keys.created")
	say.Secret, say.Label = resp.GetSecret(), p.pages.words.get("keys.value")
	return p.redirect("keys", say)
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
