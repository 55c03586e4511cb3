// Package access says who may do what: it turns a bearer credential into a Principal, holds every
// call to the scope it needs, and keeps accounts apart. It owns the form of credentials and their
// hash. It stores nothing: the keys come from the configuration (see Authenticator.PutKey), only
// as hashes, and are lost with the process.
//
// Scopes: publish accepts events; manage changes configuration and deliveries, and reads; read
// reads. Manage does not imply publish, so that a key in a console or a deployment script cannot
// make events, and publish implies nothing, so that a producer cannot see payloads of others.
// An admin key belongs to the operator, not to an account; it may do all, and names the account.
package access

import (
	"context"
	"slices"
	"time"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
)

// Reasons of the errors that this package returns.
const (
	ReasonKeyMissing      = "KEY_MISSING"       // no bearer credential was given
	ReasonKeyInvalid      = "KEY_INVALID"       // it is not, or no more, a key
	ReasonKeyExpired      = "KEY_EXPIRED"       // the key's time is over
	ReasonScopeMissing    = "SCOPE_MISSING"     // the key lacks the scope that the metadata names
	ReasonAccountNotFound = "ACCOUNT_NOT_FOUND" // no such account, or not the key's own
	ReasonMethodClosed    = "METHOD_CLOSED"     // no rule opens the method to anybody
)

// Principal is who calls.
type Principal struct {
	// Account that the key speaks for; empty for an admin.
	Account postrider.AccountID
	// KeyID is "key_" + ULID, or "bootstrap" for the admin key of the process's configuration.
	KeyID string
	// Admin is whether it may do all, for every account.
	Admin bool
	// Scopes that the key was given.
	Scopes []postrider.Scope
	// Expires is when the credential stops working; zero: never.
	Expires time.Time
	// Methods, if not nil, are the only ones that are open to it, by full name, where its scopes
	// allow them.
	Methods map[string]bool
}

// Allows reports whether the principal has the scope: an admin has every one, manage implies read
// and payloads, and nothing else implies anything.
func (p Principal) Allows(scope postrider.Scope) bool {
	if p.Admin {
		return true
	}
	switch scope {
	case postrider.ScopeRead, postrider.ScopePayloads:
		return slices.Contains(p.Scopes, scope) || slices.Contains(p.Scopes, postrider.ScopeManage)
	case postrider.ScopePublish, postrider.ScopeManage:
		return slices.Contains(p.Scopes, scope)
	case postrider.ScopeAdmin:
		return false
	}
	return false
}

// Require returns nil if the principal has the scope, and else a Denied error that names it.
func (p Principal) Require(scope postrider.Scope) error {
	if p.Allows(scope) {
		return nil
	}
	return fault.New(fault.Denied, ReasonScopeMissing, "the key lacks the scope "+string(scope)).
		WithMetadata("scope", string(scope))
}

// For is the account that a request is about, given the account that it names. An admin must name
// one. Others may name their own or none; any other is NotFound, whether it exists or not, so that
// a key cannot learn which accounts there are.
func (p Principal) For(requested string) (postrider.AccountID, error) {
	id := postrider.AccountID(requested)
	switch {
	case p.Admin && requested == "":
		return "", fault.InvalidFields(fault.Violation{Field: "account_id", Rule: "is required with an admin key"})
	case p.Admin && !id.Valid():
		return "", fault.InvalidFields(fault.Violation{Field: "account_id", Rule: `must be "acc_" and a ULID`})
	case p.Admin:
		return id, nil
	case p.Account == "":
		return "", accountNotFound(requested)
	case requested == "" || id == p.Account:
		return p.Account, nil
	}
	return "", accountNotFound(requested)
}

func accountNotFound(requested string) error {
	return fault.New(fault.NotFound, ReasonAccountNotFound, "there is no such account").
		WithMetadata("account_id", requested)
}

type principalKey struct{}

// NewContext returns a context that carries the principal.
func NewContext(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// FromContext is the principal of the call; an Unauthenticated error if there is none, which means
// that the call did not pass the interceptors or HTTP of this package.
func FromContext(ctx context.Context) (Principal, error) {
	p, ok := ctx.Value(principalKey{}).(Principal)
	if !ok {
		return Principal{}, credentialMissing()
	}
	return p, nil
}

func credentialMissing() error {
	return fault.New(fault.Unauthenticated, ReasonKeyMissing, "a bearer credential is required")
}

// CredentialInvalid says that a credential is not, or no more, one.
func CredentialInvalid() error { return credentialInvalid() }

// CredentialExpired says that a credential's time is over.
func CredentialExpired() error {
	return fault.New(fault.Unauthenticated, ReasonKeyExpired, "the credential has expired")
}

func credentialInvalid() error {
	return fault.New(fault.Unauthenticated, ReasonKeyInvalid, "the credential is not valid")
}
