package console

import (
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// showSignIn shows the form, in a session of nobody, whose token the form must bring back.
func (c *Console) showSignIn(w http.ResponseWriter, r *http.Request, s *site) {
	c.writeSignIn(w, r, s, http.StatusOK, "")
}

func (c *Console) writeSignIn(w http.ResponseWriter, r *http.Request, s *site, status int, problem string) {
	nobody := newSession(c.deps.Now())
	if err := c.keepSession(w, r, s, nobody); err != nil {
		http.Error(w, c.pages.words.get("error.internal"), http.StatusInternalServerError)
		return
	}
	v := c.aloneView(r, s, "signin.title", "signin.text")
	v.CSRF = nobody.CSRF
	v.D = map[string]any{"Form": true, "Problem": problem, "Next": next(r)}
	c.pages.alone(w, status, v)
}

// next is the page of the console that the reader came for.
func next(r *http.Request) string {
	target := r.FormValue("next")
	u, err := url.Parse(target)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(u.Path, Prefix) || strings.Contains(target, `\`) {
		return ""
	}
	if !strings.HasPrefix(path.Clean(u.Path)+"/", Prefix) {
		return "" // it climbs out
	}
	return u.RequestURI()
}

// signIn turns a key into a session, if the API knows it.
func (c *Console) signIn(w http.ResponseWriter, r *http.Request, s *site) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if before := c.session(r, s); r.ParseForm() != nil || before == nil || !before.valid(r.PostForm.Get(csrfField)) {
		c.writeSignIn(w, r, s, http.StatusForbidden, c.pages.words.get("signin.stale"))
		return
	}
	if !c.limit.Take(address(r)).OK {
		w.Header().Set("Retry-After", "60")
		c.writeSignIn(w, r, s, http.StatusTooManyRequests, c.pages.words.get("signin.limited"))
		return
	}
	found, err := c.credentialSession(r, strings.TrimSpace(r.PostForm.Get("key")))
	if err != nil {
		status, problem := http.StatusUnauthorized, "signin.wrong"
		if e, ok := fault.As(fault.FromStatus(err)); ok && e.Kind == fault.Denied {
			status, problem = http.StatusForbidden, "signin.noread"
		} else if !ok || e.Kind != fault.Unauthenticated {
			status, problem = http.StatusServiceUnavailable, "signin.away"
		}
		c.writeSignIn(w, r, s, status, c.pages.words.get(problem))
		return
	}
	if err := c.keepSession(w, r, s, found); err != nil {
		c.writeSignIn(w, r, s, http.StatusInternalServerError, c.pages.words.get("error.internal"))
		return
	}
	target := next(r)
	if target == "" {
		target = Prefix
	}
	http.Redirect(w, r, target, http.StatusSeeOther) //nolint:gosec // next allows paths of the console alone
}

// credentialSession asks the API who a credential is, and makes a session of it.
func (c *Console) credentialSession(r *http.Request, credential string) (*session, error) {
	if credential == "" || strings.ContainsAny(credential, " \t\r\n") || len(credential) > 4096 {
		return nil, fault.New(fault.Unauthenticated, "KEY_INVALID", "the credential is not valid")
	}
	ctx := metadata.AppendToOutgoingContext(r.Context(), "authorization", "Bearer "+credential)
	who, err := c.api.accounts.GetCaller(ctx, &postriderv1.GetCallerRequest{})
	if err != nil {
		return nil, err
	}
	found := newSession(c.deps.Now())
	found.Credential, found.Account, found.KeyID, found.Scopes = credential, who.GetAccountId(), who.GetApiKeyId(), who.GetScopes()
	if t := who.GetExpireTime(); t != nil {
		found.Expires = min(found.Expires, t.GetSeconds())
	}
	return found, nil
}

// address is who asks, as far as a connection tells: behind a proxy it is the proxy's.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// signOut ends the session in this browser.
func (c *Console) signOut(w http.ResponseWriter, r *http.Request, s *site) {
	found := c.session(r, s)
	if found != nil && (r.ParseForm() != nil || !found.valid(r.PostForm.Get(csrfField))) {
		http.Error(w, c.pages.words.get("signin.stale"), http.StatusForbidden)
		return
	}
	c.dropCookie(w, r, s, s.cookie())
	if s.portal {
		c.pages.alone(w, http.StatusOK, c.aloneView(r, s, "portal.over.title", "portal.over.text"))
		return
	}
	http.Redirect(w, r, Prefix+"sign-in", http.StatusSeeOther)
}

// hasSession answers a script of the sign-in page: a browser does not send our cookie with a link
// that it follows from another site, so a reader who has signed in would be asked to do so again.
func (c *Console) hasSession(w http.ResponseWriter, r *http.Request, s *site) {
	if found := c.session(r, s); found == nil || found.Credential == "" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// enterPortal turns the credential of a portal's link into a session. The link stands in no address
// after that.
func (c *Console) enterPortal(w http.ResponseWriter, r *http.Request, s *site) {
	found, err := c.credentialSession(r, r.FormValue("token"))
	if err != nil || found.Admin() || found.Account == "" {
		c.pages.alone(w, http.StatusUnauthorized, c.aloneView(r, s, "portal.over.title", "portal.over.text"))
		return
	}
	if err := c.keepSession(w, r, s, found); err != nil {
		http.Error(w, c.pages.words.get("error.internal"), http.StatusInternalServerError)
		return
	}
	http.Redirect(w, r, PortalPrefix, http.StatusSeeOther)
}

// start is the first page: an account's own overview, or the operator's choice of accounts.
func start(p *page) error {
	if p.session.Account != "" {
		http.Redirect(p.w, p.r, accountPrefix+p.session.Account+"/", http.StatusSeeOther)
	} else {
		http.Redirect(p.w, p.r, Prefix+"accounts", http.StatusSeeOther)
	}
	return nil
}
