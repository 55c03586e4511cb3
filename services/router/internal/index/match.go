package index

import (
	"sort"

	"github.com/oklog/ulid/v2"

	"github.com/postrider/postrider/pkg/match"
	"github.com/postrider/postrider/pkg/postrider"
)

// MaxUnmatched bounds the reasons kept for one event.
const MaxUnmatched = 100

// scanLimit bounds how many webhooks are looked at to name those of another event type, so that
// the reasons of an event cost the same in an account of ten webhooks and of ten thousand.
const scanLimit = 2 * MaxUnmatched

// Unmatched is a webhook that does not want an event, and why.
type Unmatched struct {
	Hook   *Hook
	Reason string
	Detail string
}

// Result is what matching one event gave.
type Result struct {
	Matched   []*Hook
	Unmatched []Unmatched // at most MaxUnmatched, failed filters first
	// OtherTypes are webhooks that want no events of this type, with Unmatched at most MaxUnmatched: the
	// 16 bytes of each id's ULID, one after the other. It is shared, and must not be changed.
	OtherTypes []byte
	Total      int // webhooks of the account
}

// Match finds the webhooks of the account that want the event. The slices of into are reused.
// It looks only at webhooks whose patterns match, however many the account has.
func (x *Index) Match(accountID postrider.AccountID, a *match.Attributes, into *Result) {
	into.Matched, into.Unmatched, into.OtherTypes, into.Total = into.Matched[:0], into.Unmatched[:0], nil, 0
	acc := x.lookup(accountID)
	if acc == nil {
		return
	}
	acc.mu.RLock()
	defer acc.mu.RUnlock()
	into.Total = len(acc.hooks)
	acc.patterns.Candidates(a.Type, func(h *Hook) {
		if reason, detail := h.judge(a); reason != "" {
			into.reject(h, reason, detail)
			return
		}
		into.Matched = append(into.Matched, h)
	})
	if len(into.Matched)+len(into.Unmatched) < into.Total {
		acc.rejectOtherTypes(a.Type, into)
	}
}

// rejectOtherTypes names webhooks that no pattern of theirs led to.
func (acc *account) rejectOtherTypes(eventType string, into *Result) {
	o, known := acc.others.get(eventType)
	if !known {
		o = acc.otherTypes(eventType)
		acc.others.put(eventType, o)
	}
	for _, u := range o.unmatched {
		into.reject(u.Hook, u.Reason, u.Detail)
	}
	into.OtherTypes = o.ids[:min(len(o.ids), (MaxUnmatched-len(into.Unmatched))*len(ulid.ULID{}))]
}

// otherTypes finds the webhooks that want no events of the type.
func (acc *account) otherTypes(eventType string) (o others) {
	looked := 0
	for _, h := range acc.hooks {
		if looked++; looked > scanLimit || o.len() == MaxUnmatched {
			break
		}
		switch {
		case h.wantsType(eventType): // a candidate, judged before
		case h.broken != "":
			o.unmatched = append(o.unmatched, Unmatched{Hook: h, Reason: ReasonFilterError, Detail: clip(h.broken)})
		case h.ulid == nil:
			o.unmatched = append(o.unmatched, Unmatched{Hook: h, Reason: ReasonEventType})
		default:
			o.ids = append(o.ids, h.ulid[:]...)
		}
	}
	return o
}

func (r *Result) reject(h *Hook, reason, detail string) {
	if len(r.Unmatched) < MaxUnmatched {
		r.Unmatched = append(r.Unmatched, Unmatched{Hook: h, Reason: reason, Detail: detail})
	}
}

// Explanation is the verdict on one webhook.
type Explanation struct {
	Hook    *Hook
	Matched bool
	Reason  string
	Detail  string
}

// Explain gives a verdict on every webhook of the account, matches first and then by id, at most
// limit of them, and how many there are.
func (x *Index) Explain(accountID postrider.AccountID, a *match.Attributes, limit int) ([]Explanation, int) {
	acc := x.lookup(accountID)
	if acc == nil {
		return nil, 0
	}
	acc.mu.RLock()
	defer acc.mu.RUnlock()
	all := make([]Explanation, 0, len(acc.hooks))
	for _, h := range acc.hooks {
		e := Explanation{Hook: h}
		switch {
		case h.broken != "":
			e.Reason, e.Detail = ReasonFilterError, clip(h.broken)
		case !h.wantsType(a.Type):
			e.Reason = ReasonEventType
		default:
			e.Reason, e.Detail = h.judge(a)
		}
		e.Matched = e.Reason == ""
		all = append(all, e)
	}
	sort.Slice(all, func(i, j int) bool {
		if all[i].Matched != all[j].Matched {
			return all[i].Matched
		}
		return all[i].Hook.ID < all[j].Hook.ID
	})
	return all[:min(limit, len(all))], len(acc.hooks)
}
