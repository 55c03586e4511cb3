package admission

import (
	"sync"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// Directory is what admission knows of accounts and their catalogues of event types. A mirror of
// the configuration feeds it; it is lost with the process.
type Directory struct {
	// longest is the window of accounts that set none, and the most that any may have.
	longest time.Duration
	// fresh says whether the mirror is up to date, so that what is not here does not exist.
	fresh func() bool

	mu       sync.RWMutex
	accounts map[postrider.AccountID]*postriderv1.Account
	types    map[postrider.AccountID]map[string]*schema // nil for a type whose data nobody looks at
}

// NewDirectory returns an empty directory. Fresh says whether what is not in it does not exist.
func NewDirectory(longestWindow time.Duration, fresh func() bool) *Directory {
	return &Directory{
		longest: longestWindow, fresh: fresh,
		accounts: make(map[postrider.AccountID]*postriderv1.Account),
		types:    make(map[postrider.AccountID]map[string]*schema),
	}
}

// PutAccount adds or replaces an account.
func (d *Directory) PutAccount(a *recordv1.Account) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.accounts[postrider.AccountID(a.GetAccount().GetId())] = a.GetAccount()
}

// DeleteAccount forgets an account.
func (d *Directory) DeleteAccount(id postrider.AccountID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.accounts, id)
}

// Several says whether there is more than one account.
func (d *Directory) Several() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return len(d.accounts) > 1
}

// PutEventType adds an event type to its account's catalogue, or replaces it. Its schema is
// compiled by the first event that is held against it, once for all.
func (d *Directory) PutEventType(e *recordv1.EventType) {
	held := newSchema(e.GetEventType())
	d.mu.Lock()
	defer d.mu.Unlock()
	account := postrider.AccountID(e.GetEventType().GetAccountId())
	if d.types[account] == nil {
		d.types[account] = make(map[string]*schema)
	}
	d.types[account][e.GetEventType().GetName()] = held
}

// DeleteEventType takes an event type out of its account's catalogue.
func (d *Directory) DeleteEventType(account postrider.AccountID, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.types[account], name)
	if len(d.types[account]) == 0 {
		delete(d.types, account)
	}
}

// Window is how long an account's deduplication keys last.
func (d *Directory) Window(account postrider.AccountID) time.Duration {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.window(d.accounts[account])
}

func (d *Directory) window(a *postriderv1.Account) time.Duration {
	if w := a.GetDedupWindow().AsDuration(); w > 0 {
		return min(w, d.longest)
	}
	return d.longest
}

// Class is the class of service of an account, for metrics and for what is trusted.
func (d *Directory) Class(account postrider.AccountID) string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return postrider.AccountClass(d.accounts[account].GetAccountClass())
}

// terms is what an account says about one of its events.
type terms struct {
	window time.Duration
	policy postriderv1.UnknownTypePolicy
	known  bool    // the type is in the catalogue
	schema *schema // that its data are held against, or nil
	strict bool    // data must be as JSON.stringify writes them
}

// look finds the terms of an account; ok is false if there is no such account.
func (d *Directory) look(account postrider.AccountID, eventType string) (t terms, ok bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	a, ok := d.accounts[account]
	if !ok {
		return terms{}, false
	}
	t = terms{window: d.window(a), policy: a.GetUnknownTypePolicy(), strict: a.GetStrictJson()}
	t.schema, t.known = d.types[account][eventType]
	return t, true
}
