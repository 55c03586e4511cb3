package console

import (
	"net/http"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// listAccounts is where an operator chooses.
func listAccounts(p *page) error { return p.accounts(http.StatusOK, nil) }

func (p *page) accounts(status int, errs map[string]string) error {
	resp, err := p.api.accounts.ListAccounts(p.ctx, &postriderv1.ListAccountsRequest{PageToken: p.query("page")})
	if err != nil {
		return err
	}
	f := formFields{words: p.pages.words, form: "accounts", values: p.r.PostForm, errors: errs}
	return p.render(status, "accounts", p.pages.words.get("accounts.title"), map[string]any{
		"Accounts": resp.GetAccounts(), "Pager": p.pagerOf(resp.GetNextPageToken()), "Errors": errs,
		"Fields": []field{f.required("display_name"), f.text("subdomain")},
	})
}

func createAccount(p *page) error {
	resp, err := p.api.accounts.CreateAccount(p.ctx, &postriderv1.CreateAccountRequest{Account: &postriderv1.Account{
		DisplayName: p.form("display_name"), Subdomain: p.form("subdomain"),
	}})
	if errs, refused := violations(err, "account."); refused {
		return p.accounts(http.StatusUnprocessableEntity, errs)
	}
	if err != nil {
		return err
	}
	http.Redirect(p.w, p.r, accountPrefix+resp.GetAccount().GetId()+"/", http.StatusSeeOther)
	return nil
}
