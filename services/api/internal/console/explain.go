package console

import (
	"net/http"
	"net/url"
	"strings"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// explain says which webhooks an event would reach, by the router's own matcher.
func explain(p *page) error {
	values := p.r.PostForm
	if p.r.Method == http.MethodGet {
		values = url.Values{"type": {p.query("type")}, "data": {"{}"}}
	}
	f := formFields{words: p.pages.words, form: "explain", values: values}
	data := map[string]any{}
	status := http.StatusOK
	if p.r.Method == http.MethodPost {
		labels, bad := readLabels(p.form("labels"))
		resp, err := p.api.webhooks.ExplainMatch(p.ctx, &postriderv1.ExplainMatchRequest{AccountId: p.accountID(), Event: &postriderv1.EventInput{
			Type: p.form("type"), Source: p.form("source"), Labels: labels, Data: []byte(p.form("data")),
		}})
		refused := false
		if f.errors, refused = violations(err, "event."); !refused && err != nil {
			return err
		}
		if bad {
			f.errors = map[string]string{"labels": p.pages.words.get("explain.labels.bad")}
		}
		if len(f.errors) > 0 {
			status = http.StatusUnprocessableEntity
		} else {
			names, _, err := p.webhookNames()
			if err != nil {
				return err
			}
			matched := 0
			for _, e := range resp.GetExplanations() {
				if e.GetMatched() {
					matched++
				}
			}
			data["Result"], data["Names"], data["Matched"] = resp, names, matched
		}
	}
	data["Fields"] = []field{f.required("type"), f.area("data", 8), f.area("labels", 2), f.text("source")}
	data["Errors"] = f.errors
	return p.render(status, "explain", p.pages.words.get("nav.explain"), data)
}

// readLabels reads one label a line, as key=value.
func readLabels(text string) (labels map[string]string, bad bool) {
	labels = make(map[string]string)
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, true
		}
		labels[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	return labels, false
}
