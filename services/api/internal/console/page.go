package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// page is one request of a reader who has signed in.
type page struct {
	*Console
	w       http.ResponseWriter
	r       *http.Request
	ctx     context.Context //nolint:containedctx // of the one request that the page is
	site    *site
	session *session
	account string // whose page it is; empty on those of no account
	name    string // of the account
	base    string // path of the account's pages, with a slash at its end
}

// open serves what needs no session.
func (c *Console) open(s *site, serve func(w http.ResponseWriter, r *http.Request, s *site)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(w, r, s) })
}

// signedIn serves a page to who has signed in and sends others to do so. A form must bring the
// session's token.
func (c *Console) signedIn(s *site, serve func(*page) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		found := c.session(r, s)
		if found == nil || found.Credential == "" {
			c.askToSignIn(w, r, s)
			return
		}
		p := &page{Console: c, w: w, r: r, site: s, session: found, account: r.PathValue("account"), base: s.prefix}
		p.ctx = withCredential(r, found.Credential)
		switch {
		case s.portal:
			p.account = found.Account
		case p.account != "":
			p.base = accountPrefix + url.PathEscape(p.account) + "/"
		}
		if err := p.serve(serve); err != nil {
			p.fail(err)
		}
	})
}

func (p *page) serve(serve func(*page) error) error {
	if p.account != "" && !postrider.AccountID(p.account).Valid() {
		return errNoPage
	}
	if p.r.Method == http.MethodPost {
		if err := p.r.ParseForm(); err != nil {
			return fault.New(fault.Invalid, "FORM_UNREADABLE", "the form cannot be read, or is larger than 2 MiB").WithCause(err)
		}
		if !p.session.valid(p.r.PostForm.Get(csrfField)) {
			return fault.New(fault.Denied, "FORM_STALE", "the form is from another session; go back, load the page anew and send it again")
		}
	}
	if err := p.readAccount(); err != nil {
		return err
	}
	return serve(p)
}

// readAccount asks the API for the account that the page is of, also where the page itself needs
// nothing of it: what is another's answers as what there is not, on every route alike.
func (p *page) readAccount() error {
	if p.account == "" {
		return nil
	}
	resp, err := p.api.accounts.GetAccount(p.ctx, &postriderv1.GetAccountRequest{AccountId: p.account})
	p.name = resp.GetAccount().GetDisplayName()
	return err
}

// withCredential is the context of the calls that are made for a request.
func withCredential(r *http.Request, credential string) context.Context {
	md := metadata.Pairs("authorization", "Bearer "+credential)
	for _, name := range []string{"traceparent", "tracestate", "x-request-id"} {
		if v := r.Header.Get(name); v != "" {
			md.Set(name, v)
		}
	}
	return metadata.NewOutgoingContext(r.Context(), md)
}

// askToSignIn sends a reader of the console to sign in and then back here. A portal is entered by a
// link that only its product can make.
func (c *Console) askToSignIn(w http.ResponseWriter, r *http.Request, s *site) {
	if s.portal {
		c.pages.alone(w, http.StatusUnauthorized, c.aloneView(r, s, "portal.over.title", "portal.over.text"))
		return
	}
	target := Prefix + "sign-in"
	if r.Method == http.MethodGet && r.URL.Path != Prefix {
		target += "?next=" + url.QueryEscape(r.URL.RequestURI())
	}
	http.Redirect(w, r, target, http.StatusSeeOther)
}

var errNoPage = fault.New(fault.NotFound, "NO_PAGE", "there is no such page")

func notFound(*page) error { return errNoPage }

// fail shows an error in place of the page. A credential that holds no longer ends the session.
func (p *page) fail(err error) {
	err = fault.FromStatus(err)
	e, known := fault.As(err)
	if !known {
		p.deps.Logger.ErrorContext(p.ctx, "page cannot be served", "path", p.r.Pattern, "error", err)
		e = fault.New(0, fault.ReasonInternal, p.pages.words.get("error.internal"))
	}
	if e.Kind == fault.Unauthenticated {
		p.dropCookie(p.w, p.r, p.site, p.site.cookie())
		p.askToSignIn(p.w, p.r, p.site)
		return
	}
	if errors.Is(p.ctx.Err(), context.Canceled) {
		return // nobody reads it
	}
	p.w.Header().Del("Content-Type")
	_ = p.render(e.Kind.HTTP(), "error", "", map[string]any{
		"Status": e.Kind.HTTP(), "Message": e.Message, "Reason": e.Reason, "Kind": e.Kind.String(), "Violations": e.Violations,
		"Retry": e.Kind == fault.Unavailable || e.Kind == fault.Deadline,
	})
}

// accountID names the account in a call; credentials of operators need it.
func (p *page) accountID() string { return p.account }

func (p *page) form(name string) string { return strings.TrimSpace(p.r.PostForm.Get(name)) }

func (p *page) query(name string) string { return strings.TrimSpace(p.r.URL.Query().Get(name)) }

// redirect goes to a page of the account, and says something there.
func (p *page) redirect(path string, say flash) error {
	if say.Text != "" {
		if err := p.setCookie(p.w, p.r, p.site, p.site.cookie()+flashSuffix, flashScope, say, flashLife); err != nil {
			return err
		}
	}
	http.Redirect(p.w, p.r, p.base+path, http.StatusSeeOther)
	return nil
}

func (p *page) ok(key string, args ...any) flash {
	return flash{Kind: "ok", Text: p.pages.words.get(key, args...)}
}

// takeFlash is what an earlier page left to say; it is said once.
func (p *page) takeFlash() *flash {
	var f flash
	name := p.site.cookie() + flashSuffix
	if !p.readCookie(p.r, p.site, name, flashScope, &f) {
		return nil
	}
	p.dropCookie(p.w, p.r, p.site, name)
	return &f
}

// webhookNames are the names of the account's webhooks by id, for lists that show ids.
func (p *page) webhookNames() (map[string]string, []*postriderv1.Webhook, error) {
	all, err := p.allWebhooks()
	names := make(map[string]string, len(all))
	for _, w := range all {
		names[w.GetId()] = w.GetDisplayName()
	}
	return names, all, err
}

// allWebhooks reads the account's webhooks, at most a thousand.
func (p *page) allWebhooks() ([]*postriderv1.Webhook, error) {
	resp, err := p.api.webhooks.ListWebhooks(p.ctx, &postriderv1.ListWebhooksRequest{AccountId: p.accountID(), PageSize: 1000})
	return resp.GetWebhooks(), err
}

// violations are the broken rules of a refused request by field; false if it was not refused for
// that. Fields lose the prefix that the request gives them, and which one of a list it is stands
// before the rule.
func violations(err error, prefix string) (map[string]string, bool) {
	e, ok := fault.As(fault.FromStatus(err))
	if !ok || e.Kind != fault.Invalid && e.Kind != fault.AlreadyExists && e.Kind != fault.Precondition {
		return nil, false
	}
	out := make(map[string]string, len(e.Violations))
	for _, v := range e.Violations {
		field, which, listed := strings.Cut(strings.TrimPrefix(v.Field, prefix), "[")
		rule := v.Rule
		if listed {
			which, _, _ = strings.Cut(which, "]")
			if i, err := strconv.Atoi(which); err == nil {
				which = fmt.Sprintf("no. %d", i+1)
			}
			rule = which + ": " + rule
		}
		switch {
		case out[field] == "":
			out[field] = rule
		case !strings.Contains(out[field], rule):
			out[field] += "; " + rule
		}
	}
	if len(out) == 0 {
		out[""] = e.Message
	}
	return out, true
}
