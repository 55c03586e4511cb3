package console

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func showSettings(p *page) error { return p.settings(http.StatusOK, nil, nil) }

// settings shows the account. Its own readers may look; operators may change it.
func (p *page) settings(status int, values url.Values, errs map[string]string) error {
	resp, err := p.api.accounts.GetAccount(p.ctx, &postriderv1.GetAccountRequest{AccountId: p.accountID()})
	if err != nil {
		return err
	}
	acc := resp.GetAccount()
	keys, err := p.api.signingKeys.ListSigningKeys(p.ctx, &postriderv1.ListSigningKeysRequest{AccountId: p.accountID()})
	if err != nil {
		return err
	}
	clients, err := p.api.signingKeys.ListClientKeys(p.ctx, &postriderv1.ListClientKeysRequest{AccountId: p.accountID()})
	if err != nil {
		return err
	}
	policy := strings.ToLower(strings.TrimPrefix(acc.GetUnknownTypePolicy().String(), "UNKNOWN_TYPE_POLICY_"))
	if values == nil {
		values = accountValues(acc, policy)
	}
	f := formFields{words: p.pages.words, form: "settings", values: values, errors: errs}
	return p.render(status, "settings", p.pages.words.get("nav.settings"), map[string]any{
		"Account": acc, "SigningKeys": keys.GetSigningKeys(), "ClientKeys": clients.GetClientKeys(), "Errors": errs, "Policy": policy,
		"Log": p.logStatus(),
		"Fields": []field{
			f.required("display_name"), f.text("subdomain"), f.text("time_zone"),
			f.choose("account_class", f.named("free", "standard", "premium", "internal")...),
			f.choose("unknown_type_policy", f.named("allow", "warn", "reject")...),
			f.number("max_in_flight", "1"), f.number("rate_limit", "0.1"), f.number("log_retention", "1"),
		},
	})
}

// accountValues are an account's values as the form shows them; a limit that is not set is empty.
func accountValues(acc *postriderv1.Account, policy string) url.Values {
	v := url.Values{
		"display_name": {acc.GetDisplayName()}, "subdomain": {acc.GetSubdomain()}, "time_zone": {acc.GetTimeZone()},
		"account_class": {acc.GetAccountClass()}, "unknown_type_policy": {policy},
	}
	if n := acc.GetMaxInFlight(); n > 0 {
		v.Set("max_in_flight", strconv.Itoa(int(n)))
	}
	if rate := acc.GetRateLimit(); rate > 0 {
		v.Set("rate_limit", strconv.FormatFloat(rate, 'g', -1, 64))
	}
	if d := acc.GetLogRetention(); d != nil {
		v.Set("log_retention", strconv.FormatFloat(d.AsDuration().Hours()/24, 'g', -1, 64))
	}
	return v
}

// accountForm reads the form. What it cannot read is named by field.
func (p *page) accountForm() (*postriderv1.Account, map[string]string) {
	errs := make(map[string]string)
	f := formFields{words: p.pages.words}
	number := func(name string) float64 {
		if text := p.form(name); text != "" {
			return f.parse(name, text, errs)
		}
		return 0
	}
	policy := postriderv1.UnknownTypePolicy_value["UNKNOWN_TYPE_POLICY_"+strings.ToUpper(p.form("unknown_type_policy"))]
	acc := &postriderv1.Account{
		Id: p.accountID(), DisplayName: p.form("display_name"), Subdomain: p.form("subdomain"), TimeZone: p.form("time_zone"),
		AccountClass: p.form("account_class"), UnknownTypePolicy: postriderv1.UnknownTypePolicy(policy), Etag: p.form("etag"),
		MaxInFlight: int32(number("max_in_flight")), RateLimit: number("rate_limit"),
	}
	if p.form("log_retention") != "" {
		acc.LogRetention = durationpb.New(time.Duration(number("log_retention") * float64(24*time.Hour)))
	}
	return acc, errs
}

func saveSettings(p *page) error {
	acc, errs := p.accountForm()
	if len(errs) > 0 {
		return p.settings(http.StatusUnprocessableEntity, p.r.PostForm, errs)
	}
	_, err := p.api.accounts.UpdateAccount(p.ctx, &postriderv1.UpdateAccountRequest{Account: acc, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{
		"display_name", "subdomain", "time_zone", "account_class", "unknown_type_policy", "max_in_flight", "rate_limit", "log_retention",
	}}})
	if errs, refused := violations(err, "account."); refused {
		return p.settings(http.StatusUnprocessableEntity, p.r.PostForm, errs)
	}
	if err != nil {
		return err
	}
	return p.redirect("settings", p.ok("settings.saved"))
}

func rotateSigningKey(p *page) error {
	_, err := p.api.signingKeys.RotateSigningKey(p.ctx, &postriderv1.RotateSigningKeyRequest{AccountId: p.accountID(), Algorithm: p.form("algorithm")})
	if err != nil {
		return err
	}
	return p.redirect("settings", p.ok("settings.rotated"))
}
