package console

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// attemptView is an attempt with where its time went as parts of a bar.
type attemptView struct {
	*postriderv1.Attempt
	Good   bool
	Phases []phase
}

// phase is one part of an attempt's time.
type phase struct{ Name, X, W, Took string }

func (p *page) attemptViews(list []*postriderv1.Attempt) []attemptView {
	out := make([]attemptView, len(list))
	for i, a := range list {
		out[i] = newAttemptView(a)
	}
	return out
}

func newAttemptView(a *postriderv1.Attempt) attemptView {
	return attemptView{Attempt: a, Good: a.GetOutcome() == "succeeded", Phases: phases(a)}
}

// phases are the parts of an attempt's time: the first byte counts from the beginning, so what the
// parts before it do not take is the wait for the answer.
func phases(a *postriderv1.Attempt) []phase {
	t := a.GetTimings()
	if t == nil || a.GetDuration().AsDuration() <= 0 {
		return nil
	}
	total := a.GetDuration().AsDuration()
	dns, connect, handshake := t.GetDns().AsDuration(), t.GetConnect().AsDuration(), t.GetTls().AsDuration()
	first := t.GetFirstByte().AsDuration()
	parts := []struct {
		name string
		took time.Duration
	}{{"dns", dns}, {"connect", connect}, {"tls", handshake}, {"wait", max(first-dns-connect-handshake, 0)}, {"rest", 0}}
	if first > 0 {
		parts[4].took = max(total-first, 0)
	}
	var out []phase
	at := 0.0
	for _, part := range parts {
		if part.took <= 0 {
			continue
		}
		w := min(float64(part.took)/float64(total)*100, 100-at)
		out = append(out, phase{part.name, fmt.Sprintf("%.3f", at), fmt.Sprintf("%.3f", w), shownDuration(part.took)})
		at += w
	}
	return out
}

// difference is one line of the view of two attempts.
type difference struct {
	Name, A, B string
	Changed    bool
}

// compareAttempts shows two attempts of a delivery side by side, with what differs marked.
func compareAttempts(p *page) error {
	id := p.r.PathValue("delivery")
	resp, err := p.api.deliveries.ListAttempts(p.ctx, &postriderv1.ListAttemptsRequest{AccountId: p.accountID(), DeliveryId: id, PageSize: 200})
	if err != nil {
		return err
	}
	find := func(id string) *postriderv1.Attempt {
		for _, a := range resp.GetAttempts() {
			if a.GetId() == id {
				return a
			}
		}
		return nil
	}
	a, b := find(p.query("a")), find(p.query("b"))
	if a == nil || b == nil {
		return errNoPage
	}
	return p.render(http.StatusOK, "compare", p.pages.words.get("compare.title"), map[string]any{
		"ID": id, "A": a, "B": b, "All": resp.GetAttempts(), "Lines": p.differences(a, b),
	})
}

func (p *page) differences(a, b *postriderv1.Attempt) []difference {
	w := p.pages.words
	var out []difference
	add := func(name, x, y string) { out = append(out, difference{name, x, y, x != y}) }
	add(w.get("attempt.outcome"), w.or("state."+a.GetOutcome(), a.GetOutcome()), w.or("state."+b.GetOutcome(), b.GetOutcome()))
	add(w.get("attempt.status"), strconv.Itoa(int(a.GetStatusCode())), strconv.Itoa(int(b.GetStatusCode())))
	add(w.get("attempt.error"), a.GetErrorClass(), b.GetErrorClass())
	add(w.get("test.message"), a.GetErrorMessage(), b.GetErrorMessage())
	add(w.get("attempt.duration"), shownDuration(a.GetDuration()), shownDuration(b.GetDuration()))
	add(w.get("attempt.url"), a.GetRequestMethod()+" "+a.GetRequestUrl(), b.GetRequestMethod()+" "+b.GetRequestUrl())
	headers := func(title string, x, y map[string]string) {
		names := slices.Sorted(maps.Keys(x))
		for _, n := range slices.Sorted(maps.Keys(y)) {
			if _, both := x[n]; !both {
				names = append(names, n)
			}
		}
		for _, n := range names {
			add(title+" "+n, x[n], y[n])
		}
	}
	headers("→", a.GetRequestHeaders(), b.GetRequestHeaders())
	add(w.get("attempt.body"), shownText(a.GetRequestBody()), shownText(b.GetRequestBody()))
	headers("←", a.GetResponseHeaders(), b.GetResponseHeaders())
	add(w.get("attempt.response"), shownText(a.GetResponseBody()), shownText(b.GetResponseBody()))
	slices.SortStableFunc(out, func(x, y difference) int { return -cmp.Compare(rank(x.Changed), rank(y.Changed)) })
	return out
}

func rank(changed bool) int {
	if changed {
		return 1
	}
	return 0
}
