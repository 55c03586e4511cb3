package console

import (
	"maps"
	"net/http"
	"strconv"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// listDeadLetters is the inbox: groups of what died alike, and the letters of the one that is open.
func listDeadLetters(p *page) error { return p.deadLetters(http.StatusOK, nil) }

func (p *page) deadLetters(status int, extra map[string]any) error {
	hook := p.query("webhook")
	sum, err := p.api.deliveries.SummarizeDeadLetters(p.ctx, &postriderv1.SummarizeDeadLettersRequest{AccountId: p.accountID()})
	if err != nil {
		return err
	}
	names, _, err := p.webhookNames()
	if err != nil {
		return err
	}
	data := map[string]any{
		"Summary": sum, "Names": names, "Webhook": hook, "Cause": p.query("cause"), "Type": p.query("type"),
		"Total": sum.GetTotal(), "Rate": redriveRate, "Selected": p.r.Form["letter"],
	}
	if hook != "" {
		list, err := p.api.deliveries.ListDeadLetters(p.ctx, &postriderv1.ListDeadLettersRequest{
			AccountId: p.accountID(), WebhookId: hook, PageSize: 200, PageToken: p.query("page"),
		})
		if err != nil {
			return err
		}
		var letters []*postriderv1.DeadLetter
		for _, l := range list.GetDeadLetters() {
			if (p.query("cause") == "" || l.GetCause() == p.query("cause")) && (p.query("type") == "" || l.GetEventType() == p.query("type")) {
				letters = append(letters, l)
			}
		}
		data["Letters"], data["Pager"] = letters, p.pagerOf(list.GetNextPageToken())
	}
	maps.Copy(data, extra)
	return p.render(status, "dead_letters", p.pages.words.get("nav.dead-letters"), data)
}

const redriveRate = 100

// redriveDeadLetters delivers again what is ticked, or the whole group; or counts it only.
func redriveDeadLetters(p *page) error {
	sel := &postriderv1.DeadLetterSelection{}
	switch p.form("what") {
	case "selected":
		sel.DeliveryIds = p.r.PostForm["letter"]
		if len(sel.GetDeliveryIds()) == 0 {
			return p.deadLetters(http.StatusUnprocessableEntity, map[string]any{"Errors": map[string]string{"": p.pages.words.get("dead.none.selected")}})
		}
	case "group":
		sel.WebhookId, sel.Cause, sel.EventType = p.form("webhook"), p.form("cause"), p.form("type")
	case "all":
	default:
		return errNoPage
	}
	rate, err := strconv.ParseFloat(p.form("rate"), 64)
	if err != nil {
		rate = redriveRate
	}
	dry := p.form("dry") != ""
	resp, err := p.api.replays.RedriveDeadLetters(p.ctx, &postriderv1.RedriveDeadLettersRequest{AccountId: p.accountID(), DeadLetters: sel, Rate: rate, DryRun: dry})
	if errs, refused := violations(err, ""); refused {
		return p.deadLetters(http.StatusUnprocessableEntity, map[string]any{"Errors": errs})
	}
	if err != nil {
		return err
	}
	if dry {
		return p.deadLetters(http.StatusOK, map[string]any{"Preview": resp.GetPreview()})
	}
	return p.redirect("replays/"+resp.GetReplay().GetId(), p.ok("dead.redriven"))
}
