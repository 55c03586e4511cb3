package console

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// session is what a browser brings with each request. It is sealed: the browser can neither read nor
// change it. It holds the reader's credential, so whoever holds the cookie is the reader; the API
// checks the credential at each call, so a key that is revoked ends its sessions.
type session struct {
	Credential string   `json:"k,omitempty"` // empty: nobody has signed in yet
	CSRF       string   `json:"c"`
	Expires    int64    `json:"e"` // Unix seconds
	Account    string   `json:"a,omitempty"`
	KeyID      string   `json:"i,omitempty"`
	Scopes     []string `json:"s,omitempty"`
}

const (
	sessionLife   = 12 * time.Hour
	sessionScope  = "postrider/console-session"
	flashScope    = "postrider/console-flash"
	flashLife     = time.Minute
	csrfBytes     = 16
	csrfField     = "csrf"
	scopeManage   = "manage"
	scopeRead     = "read"
	scopePayloads = "payloads"
	scopeAdmin    = "admin"
	consoleCookie = "postrider_console"
	portalCookie  = "postrider_portal"
	flashSuffix   = "_flash"
)

// Admin reports whether the reader is an operator.
func (s *session) Admin() bool { return slices.Contains(s.Scopes, scopeAdmin) }

// CanManage reports whether to show what changes things; the API decides whether it is done.
func (s *session) CanManage() bool { return s.Admin() || slices.Contains(s.Scopes, scopeManage) }

// CanReveal reports whether to offer what is masked; the API decides whether it is shown.
func (s *session) CanReveal() bool { return s.CanManage() || slices.Contains(s.Scopes, scopePayloads) }

func newSession(now time.Time) *session {
	b := make([]byte, csrfBytes)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return &session{CSRF: base64.RawURLEncoding.EncodeToString(b), Expires: now.Add(sessionLife).Unix()}
}

// valid reports whether a form's token is that of the session.
func (s *session) valid(token string) bool {
	return s.CSRF != "" && subtle.ConstantTimeCompare([]byte(s.CSRF), []byte(token)) == 1
}

// flash is what a page says once, after another one did something.
type flash struct {
	Kind   string `json:"k"` // "ok" or "bad"
	Text   string `json:"t"`
	Secret string `json:"s,omitempty"` // a value that is shown only now
	Label  string `json:"l,omitempty"` // what the value is
}

// secureRequest reports whether the reader's browser speaks to us over TLS, as far as we can tell.
func (c *Console) secureRequest(r *http.Request) bool {
	return r.TLS != nil || strings.HasPrefix(strings.ToLower(c.deps.PublicURL.Of(r)), "https://")
}

// cookieName is a cookie's name for the request. Browsers keep names with this prefix to TLS.
func (c *Console) cookieName(r *http.Request, name string) string {
	if c.secureRequest(r) {
		return "__Secure-" + name
	}
	return name
}

func (s *site) cookie() string {
	if s.portal {
		return portalCookie
	}
	return consoleCookie
}

// setCookie seals a value into a cookie of the site. Those of the console are for its own pages
// alone. A portal that is embedded in pages of another site has to ask for a cookie of its own there.
func (c *Console) setCookie(w http.ResponseWriter, r *http.Request, s *site, name, scope string, value any, life time.Duration) error {
	plain, err := json.Marshal(value)
	if err != nil {
		return err
	}
	sealed, err := c.deps.Sealer.Seal(plain, []byte(scope+"/"+s.cookie()))
	if err != nil {
		return err
	}
	http.SetCookie(w, c.cookie(r, s, name, base64.RawURLEncoding.EncodeToString(sealed), int(life/time.Second)))
	return nil
}

func (c *Console) cookie(r *http.Request, s *site, name, value string, maxAge int) *http.Cookie {
	k := &http.Cookie{ //nolint:gosec // Secure unless the browser speaks plain HTTP, where it would drop the cookie
		Name: c.cookieName(r, name), Value: value, Path: s.prefix, MaxAge: maxAge,
		HttpOnly: true, Secure: c.secureRequest(r), SameSite: http.SameSiteStrictMode,
	}
	if s.portal {
		k.SameSite = http.SameSiteLaxMode
		if k.Secure && c.deps.Config.Ancestors != "" {
			k.SameSite, k.Partitioned = http.SameSiteNoneMode, true
		}
	}
	return k
}

// readCookie opens a cookie; false if there is none, or none of ours.
func (c *Console) readCookie(r *http.Request, s *site, name, scope string, into any) bool {
	k, err := r.Cookie(c.cookieName(r, name))
	if err != nil {
		return false
	}
	sealed, err := base64.RawURLEncoding.DecodeString(k.Value)
	if err != nil {
		return false
	}
	plain, err := c.deps.Sealer.Open(sealed, []byte(scope+"/"+s.cookie()))
	return err == nil && json.Unmarshal(plain, into) == nil
}

func (c *Console) dropCookie(w http.ResponseWriter, r *http.Request, s *site, name string) {
	http.SetCookie(w, c.cookie(r, s, name, "", -1))
}

// session is that of the request; nil if it has none that holds.
func (c *Console) session(r *http.Request, s *site) *session {
	var found session
	if !c.readCookie(r, s, s.cookie(), sessionScope, &found) || c.deps.Now().Unix() >= found.Expires {
		return nil
	}
	return &found
}

func (c *Console) keepSession(w http.ResponseWriter, r *http.Request, s *site, found *session) error {
	life := time.Unix(found.Expires, 0).Sub(c.deps.Now())
	return c.setCookie(w, r, s, s.cookie(), sessionScope, found, life)
}
