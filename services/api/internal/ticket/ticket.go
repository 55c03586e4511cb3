// Package ticket makes and reads the credentials of portal links. A ticket holds, sealed, the account
// that it opens and until when, so it is stored nowhere and every replica knows it. One that was
// handed out cannot be taken back before its time; that is why its time is short.
package ticket

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/seal"
)

// KeyID names the bearer of a ticket where others have the id of a key.
const KeyID = "portal"

// associated binds what is sealed to its purpose.
const associated = "postrider/portal-ticket"

type content struct {
	Account  postrider.AccountID `json:"a"`
	Expires  int64               `json:"e"` // Unix seconds
	ReadOnly bool                `json:"r,omitempty"`
}

// Office makes and reads tickets. It is safe for concurrent use.
type Office struct {
	sealer  *seal.Sealer
	methods map[string]bool
	now     func() time.Time
}

// NewOffice returns an office whose tickets open these methods, by full name.
func NewOffice(sealer *seal.Sealer, methods map[string]bool, now func() time.Time) *Office {
	return &Office{sealer: sealer, methods: methods, now: now}
}

// New makes a ticket for an account. Expires is cut to the second.
func (o *Office) New(account postrider.AccountID, expires time.Time, readOnly bool) (string, error) {
	plain, err := json.Marshal(content{Account: account, Expires: expires.Unix(), ReadOnly: readOnly})
	if err != nil {
		return "", fmt.Errorf("make a ticket: %w", err)
	}
	sealed, err := o.sealer.Seal(plain, []byte(associated))
	if err != nil {
		return "", fmt.Errorf("make a ticket: %w", err)
	}
	return access.TicketPrefix + base64.RawURLEncoding.EncodeToString(sealed), nil
}

// Open is who the bearer of a ticket is, or an Unauthenticated error.
func (o *Office) Open(credential string) (access.Principal, error) {
	text, ok := strings.CutPrefix(credential, access.TicketPrefix)
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if !ok || err != nil {
		return access.Principal{}, access.CredentialInvalid()
	}
	plain, err := o.sealer.Open(sealed, []byte(associated))
	if err != nil {
		return access.Principal{}, access.CredentialInvalid()
	}
	var c content
	if err := json.Unmarshal(plain, &c); err != nil || !c.Account.Valid() {
		return access.Principal{}, access.CredentialInvalid()
	}
	expires := time.Unix(c.Expires, 0)
	if !o.now().Before(expires) {
		return access.Principal{}, access.CredentialExpired()
	}
	p := access.Principal{Account: c.Account, KeyID: KeyID, Expires: expires, Methods: o.methods, Scopes: []postrider.Scope{postrider.ScopeRead}}
	if !c.ReadOnly {
		p.Scopes = append(p.Scopes, postrider.ScopeManage)
	}
	return p, nil
}
