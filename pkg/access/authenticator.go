package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// bootstrapKeyID names the admin key that the process was started with.
const bootstrapKeyID = "bootstrap"

type keyHash [sha256.Size]byte

// grant is a key as the Authenticator keeps it.
type grant struct {
	hash      keyHash
	principal Principal
	expires   time.Time // zero: never
}

// Authenticator knows the hashes of all keys. Feed it from a configuration mirror: a key that was
// deleted stops working when DeleteKey returns, also on calls that stream.
type Authenticator struct {
	now       func() time.Time
	bootstrap *grant                                     // nil: no bootstrap admin key
	tickets   func(credential string) (Principal, error) // nil: there are none

	mu   sync.RWMutex
	keys map[keyHash]*grant
}

// NewAuthenticator makes an Authenticator that knows one key: the admin key of the process's
// configuration, or none if it is empty.
func NewAuthenticator(adminKey string) *Authenticator {
	a := &Authenticator{now: time.Now, keys: make(map[keyHash]*grant)}
	// A key that comes from a file ends in a line break, and no credential begins or ends in space.
	if adminKey = strings.TrimSpace(adminKey); adminKey != "" {
		a.bootstrap = &grant{
			hash:      sha256.Sum256([]byte(adminKey)),
			principal: Principal{KeyID: bootstrapKeyID, Admin: true, Scopes: []postrider.Scope{postrider.ScopeAdmin}},
		}
	}
	return a
}

// TicketPrefix begins the credentials that are no keys: nobody stores them, and what they open stands
// in themselves.
const TicketPrefix = "prt_"

// WithTickets makes the Authenticator take credentials with TicketPrefix as well, which open reads; its
// error is what their bearer is told. Call it before the first use.
func (a *Authenticator) WithTickets(open func(credential string) (Principal, error)) *Authenticator {
	a.tickets = open
	return a
}

// PutKey adds a key or replaces the one with the same hash. A record that is malformed (no full
// hash, or neither an account nor the scope admin) opens nothing and removes what was there.
func (a *Authenticator) PutKey(rec *recordv1.Key) {
	if len(rec.GetHash()) != sha256.Size {
		return
	}
	g := &grant{hash: keyHash(rec.GetHash())}
	ok := g.fill(rec)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !ok {
		delete(a.keys, g.hash)
		return
	}
	a.keys[g.hash] = g
}

// fill reads the record; false if it grants nothing. Admin stands alone, without an account, so a
// record that mixes the two grants only the account's other scopes.
func (g *grant) fill(rec *recordv1.Key) bool {
	key := rec.GetKey()
	g.principal = Principal{Account: postrider.AccountID(key.GetAccountId()), KeyID: key.GetId()}
	if t := key.GetExpireTime(); t != nil {
		g.expires = t.AsTime()
		g.principal.Expires = g.expires
	}
	for _, s := range key.GetScopes() {
		switch scope := postrider.Scope(s); scope {
		case postrider.ScopeAdmin:
			if g.principal.Account == "" {
				g.principal.Admin = true
				g.principal.Scopes = append(g.principal.Scopes, scope)
			}
		case postrider.ScopePublish, postrider.ScopeManage, postrider.ScopeRead, postrider.ScopePayloads:
			if g.principal.Account != "" {
				g.principal.Scopes = append(g.principal.Scopes, scope)
			}
		}
	}
	return len(g.principal.Scopes) > 0
}

// DeleteKey forgets the key with this hash.
func (a *Authenticator) DeleteKey(hash []byte) {
	if len(hash) != sha256.Size {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.keys, keyHash(hash))
}

// Authenticate is the principal of an Authorization header, or an Unauthenticated error.
func (a *Authenticator) Authenticate(authorizationHeader string) (Principal, error) {
	p, _, err := a.authenticate(authorizationHeader)
	return p, err
}

// authenticate also returns what checks the credential again later.
func (a *Authenticator) authenticate(header string) (Principal, func() error, error) {
	if header == "" {
		return Principal{}, nil, credentialMissing()
	}
	credential, ok := bearer(header)
	if !ok {
		return Principal{}, nil, credentialInvalid()
	}
	look := func() (Principal, error) { return a.tickets(credential) }
	if a.tickets == nil || !strings.HasPrefix(credential, TicketPrefix) {
		hash := keyHash(sha256.Sum256([]byte(credential)))
		look = func() (Principal, error) { return a.check(hash) }
	}
	p, err := look()
	return p, func() error { _, err := look(); return err }, err
}

// check is the principal of a credential's hash. What takes a time that depends on data works on
// SHA-256 of what the caller sent, of which a caller cannot choose a single bit without trying, so
// the time of the look-up tells nothing about a credential; the comparison that decides takes the
// same time whatever differs, also against the bootstrap key.
func (a *Authenticator) check(hash keyHash) (Principal, error) {
	a.mu.RLock()
	g := a.keys[hash]
	a.mu.RUnlock()
	var found *grant
	for _, candidate := range []*grant{g, a.bootstrap} {
		if candidate != nil && subtle.ConstantTimeCompare(candidate.hash[:], hash[:]) == 1 {
			found = candidate
		}
	}
	switch {
	case found == nil:
		return Principal{}, credentialInvalid()
	case !found.expires.IsZero() && !a.now().Before(found.expires):
		return Principal{}, CredentialExpired()
	}
	return found.principal, nil
}
