package console

import (
	"errors"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/pkg/signature"
	"github.com/postrider/postrider/pkg/verify"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// verifySchemes are the ways to sign that can be checked here.
var verifySchemes = []string{"standard", "jewelmusic", "jewelmusic-sdk", "stripe", "github", "shopify", "slack", "svix"}

// verdict is what the check found.
type verdict struct {
	Good   bool
	Text   string
	Detail string
}

// verifySignature checks a request that somebody pastes, with a secret that is pasted too or with
// those of a webhook, by the library that receivers use.
func verifySignature(p *page) error {
	values := p.r.PostForm
	if p.r.Method == http.MethodGet {
		values = url.Values{"scheme": {"standard"}, "webhook": {p.query("webhook")}}
	}
	f := formFields{words: p.pages.words, form: "verify", values: values, errors: map[string]string{}}
	hooks, err := p.allWebhooks()
	if err != nil {
		return err
	}
	data := map[string]any{}
	status := http.StatusOK
	if p.r.Method == http.MethodPost {
		v, err := p.verdict(f.errors, hooks)
		if err != nil {
			return err
		}
		if len(f.errors) > 0 {
			status = http.StatusUnprocessableEntity
		} else {
			data["Verdict"] = v
		}
	}
	body := f.area("body", 8)
	own := []option{{"", p.pages.words.get("verify.pasted")}}
	if p.session.CanManage() {
		for _, w := range hooks {
			own = append(own, option{w.GetId(), w.GetDisplayName()})
		}
	}
	schemes := make([]option, len(verifySchemes))
	for i, s := range verifySchemes {
		schemes[i] = option{s, p.pages.words.get("kind." + s)}
	}
	data["Fields"] = []field{f.choose("webhook", own...), f.choose("scheme", schemes...), f.text("secret"), f.area("headers", 5), body}
	data["Errors"] = f.errors
	return p.render(status, "verify", p.pages.words.get("nav.verify"), data)
}

func (p *page) verdict(errs map[string]string, hooks []*postriderv1.Webhook) (*verdict, error) {
	scheme, secrets := p.form("scheme"), []string{p.form("secret")}
	for _, w := range hooks {
		if w.GetId() != p.form("webhook") {
			continue
		}
		resp, err := p.api.webhooks.GetWebhookSecrets(p.ctx, &postriderv1.GetWebhookSecretsRequest{AccountId: p.accountID(), WebhookId: w.GetId()})
		if err != nil {
			return nil, err
		}
		secrets = make([]string, 0, len(resp.GetSecrets()))
		for _, s := range resp.GetSecrets() {
			if key := s.GetDescription().GetPublicKey(); key != "" {
				secrets = append(secrets, key)
			} else {
				secrets = append(secrets, s.GetSecret())
			}
		}
		if _, known := signature.LookupScheme(w.GetProfile()); known {
			scheme = w.GetProfile()
		}
	}
	r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: "/"}, Header: readHeaders(p.form("headers"))}
	// The time of a request that somebody looks into later is long past: it is told, not refused.
	opts := verify.Options{Tolerance: 100 * 365 * 24 * time.Hour, Now: p.deps.Now, URL: func(*http.Request) string { return "https://localhost/" }}
	var v *verify.Verifier
	var err error
	if scheme == "standard" {
		if v, err = verify.Standard(secrets, opts); err != nil && !inStandardForm(secrets) {
			v, err = verify.StandardText(secrets, opts)
		}
	} else {
		v, err = verify.Scheme(scheme, secrets, opts)
	}
	if err != nil {
		errs["secret"] = p.pages.words.get("verify.secret.bad")
		return nil, nil //nolint:nilnil,nilerr // the form says what is wrong
	}
	return p.judge(v, r), nil
}

// judge tells what became of the check. A body that was copied by hand often has a line break too many
// or too few, so it is tried without one as well.
func (p *page) judge(v *verify.Verifier, r *http.Request) *verdict {
	body := strings.ReplaceAll(p.r.PostForm.Get("body"), "\r\n", "\n")
	w := p.pages.words
	var err error
	for i, each := range []string{body, strings.TrimSuffix(body, "\n"), body + "\n"} {
		var m *verify.Message
		if m, err = v.Verify(r, []byte(each)); err != nil {
			continue
		}
		out := &verdict{Good: true, Text: w.get("verify.good")}
		if i > 0 {
			out.Detail = w.get("verify.newline")
		}
		if !m.Time.IsZero() {
			if age := p.deps.Now().Sub(m.Time); age > verify.DefaultTolerance || age < -verify.DefaultTolerance {
				out.Detail += " " + w.get("verify.old", m.Time.UTC().Format(time.RFC3339))
			}
		}
		return out
	}
	out := &verdict{Text: w.get("verify.bad")}
	switch {
	case errors.Is(err, verify.ErrMissingHeader):
		out.Detail = w.get("verify.bad.header")
	case errors.Is(err, verify.ErrTimestamp):
		out.Detail = w.get("verify.bad.time")
	default:
		out.Detail = w.get("verify.bad.match")
	}
	return out
}

func readHeaders(text string) http.Header {
	h := make(http.Header)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			h.Add(textproto.TrimString(name), textproto.TrimString(value))
		}
	}
	return h
}

// inStandardForm reports whether one of the secrets is in the form of Standard Webhooks, and so is no
// plain text.
func inStandardForm(secrets []string) bool {
	return slices.ContainsFunc(secrets, func(s string) bool {
		return strings.HasPrefix(s, "whsec_") || strings.HasPrefix(s, "whsk_") || strings.HasPrefix(s, "whpk_")
	})
}
