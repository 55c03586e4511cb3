// Package index is the router's picture of every account's webhooks: what each one wants, kept
// in memory and fed by the configuration's change feed. It is an index and may be lost; the
// record is the bucket `webhooks`.
package index

import (
	"fmt"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/postrider/postrider/pkg/match"
	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// Reasons why a webhook does not want an event.
const (
	ReasonEventType   = "event_type"
	ReasonScopes      = "scopes"
	ReasonFilter      = "filter"
	ReasonFilterError = "filter_error"
)

// Hook is what routing knows of one webhook. It is immutable; a change makes a new one.
type Hook struct {
	ID         postrider.WebhookID
	Account    postrider.AccountID
	State      postriderv1.WebhookState
	CreateTime time.Time
	Revision   uint64

	ulid     *ulid.ULID // of the id; nil if it has none
	patterns []match.Pattern
	scopes   match.Scopes
	filter   *match.Filter
	broken   string // why patterns, scopes or filter of the record cannot be used
}

// Index holds the webhooks of all accounts. It is safe for use by many goroutines.
type Index struct {
	mu       sync.RWMutex
	accounts map[postrider.AccountID]*account
	size     int
}

type account struct {
	mu       sync.RWMutex
	hooks    map[postrider.WebhookID]*Hook
	patterns match.Index[*Hook]
	others   typesOthers // forgotten with each change of hooks
}

// New returns an empty index.
func New() *Index { return &Index{accounts: make(map[postrider.AccountID]*account)} }

// Put adds a webhook or replaces it, unless a later revision of it is already there. A record
// whose filter or patterns this version cannot read stays in the index, matches nothing and says
// why: one bad webhook never stops the others.
func (x *Index) Put(rec *recordv1.Webhook, revision uint64) {
	hook := newHook(rec.GetWebhook(), revision)
	acc := x.account(hook.Account)
	acc.mu.Lock()
	defer acc.mu.Unlock()
	old, ok := acc.hooks[hook.ID]
	if ok && old.Revision > revision {
		return
	}
	if ok {
		acc.patterns.Remove(old)
	} else {
		x.resize(1)
	}
	acc.hooks[hook.ID] = hook
	acc.patterns.Add(hook, hook.patterns)
	acc.others.forget()
}

// Delete removes a webhook, unless a later revision of it is there.
func (x *Index) Delete(accountID postrider.AccountID, id postrider.WebhookID, revision uint64) {
	acc := x.account(accountID)
	acc.mu.Lock()
	defer acc.mu.Unlock()
	old, ok := acc.hooks[id]
	if !ok || old.Revision > revision {
		return
	}
	acc.patterns.Remove(old)
	delete(acc.hooks, id)
	acc.others.forget()
	x.resize(-1)
}

// Len is the number of webhooks in all accounts.
func (x *Index) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.size
}

func (x *Index) resize(by int) {
	x.mu.Lock()
	x.size += by
	x.mu.Unlock()
}

// account returns the account's part, made if need be.
func (x *Index) account(id postrider.AccountID) *account {
	x.mu.RLock()
	acc := x.accounts[id]
	x.mu.RUnlock()
	if acc != nil {
		return acc
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if acc = x.accounts[id]; acc == nil {
		acc = &account{hooks: make(map[postrider.WebhookID]*Hook)}
		x.accounts[id] = acc
	}
	return acc
}

func (x *Index) lookup(id postrider.AccountID) *account {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.accounts[id]
}

func newHook(w *postriderv1.Webhook, revision uint64) *Hook {
	hook := &Hook{
		ID:         postrider.WebhookID(w.GetId()),
		Account:    postrider.AccountID(w.GetAccountId()),
		State:      w.GetState(),
		CreateTime: w.GetCreateTime().AsTime(),
		Revision:   revision,
	}
	if u, ok := hook.ID.ULID(); ok {
		hook.ulid = &u
	}
	if err := hook.compile(w); err != nil {
		hook.broken = err.Error()
	}
	return hook
}

func (h *Hook) compile(w *postriderv1.Webhook) error {
	for _, text := range w.GetEventTypes() {
		pattern, err := match.ParsePattern(text)
		if err != nil {
			return fmt.Errorf("event type pattern %q: %w", text, err)
		}
		h.patterns = append(h.patterns, pattern)
	}
	scopes, err := match.ParseScopes(w.GetScopes())
	if err != nil {
		return fmt.Errorf("scopes: %w", err)
	}
	h.scopes = scopes
	if w.GetFilter() == "" {
		return nil
	}
	if h.filter, err = match.CompileFilter(w.GetFilter()); err != nil {
		return fmt.Errorf("filter: %w", err)
	}
	return nil
}

// wantsType reports whether a pattern of the webhook matches the event type.
func (h *Hook) wantsType(eventType string) bool {
	for _, p := range h.patterns {
		if p.Match(eventType) {
			return true
		}
	}
	return false
}

// judge says whether a webhook whose patterns match wants the event, and if not, why. A filter
// that fails at run time is a recorded no-match.
func (h *Hook) judge(a *match.Attributes) (reason, detail string) {
	if h.broken != "" {
		return ReasonFilterError, clip(h.broken)
	}
	if !h.scopes.Match(a.Labels) {
		return ReasonScopes, ""
	}
	if h.filter == nil {
		return "", ""
	}
	ok, err := h.filter.Match(a)
	switch {
	case err != nil:
		return ReasonFilterError, clip(err.Error())
	case !ok:
		return ReasonFilter, ""
	}
	return "", ""
}

// maxDetail bounds what is kept of an error text, in bytes.
const maxDetail = 256

func clip(s string) string {
	if len(s) <= maxDetail {
		return s
	}
	return s[:maxDetail]
}
