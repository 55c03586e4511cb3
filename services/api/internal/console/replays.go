package console

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func listReplays(p *page) error {
	resp, err := p.api.replays.ListReplays(p.ctx, &postriderv1.ListReplaysRequest{AccountId: p.accountID(), PageToken: p.query("page")})
	if err != nil {
		return err
	}
	return p.render(http.StatusOK, "replays", p.pages.words.get("nav.replays"), map[string]any{
		"Replays": resp.GetReplays(), "Pager": p.pagerOf(resp.GetNextPageToken()),
	})
}

func newReplay(p *page) error {
	values := url.Values{}
	for _, name := range []string{"event", "webhook", "types", "state", "from", "to"} {
		values.Set(name, p.query(name))
	}
	if values.Get("event") == "" && values.Get("from") == "" {
		values.Set("from", p.deps.Now().Add(-time.Hour).UTC().Format(fieldTime))
	}
	values.Set("rate", "100")
	return p.replayPage(http.StatusOK, values, nil, nil)
}

func (p *page) replayPage(status int, values url.Values, errs map[string]string, preview *postriderv1.ReplayPreview) error {
	f := formFields{words: p.pages.words, form: "replay", values: values, errors: errs}
	hooks, err := p.allWebhooks()
	if err != nil {
		return err
	}
	options := []option{{"", p.pages.words.get("replay.every")}}
	for _, w := range hooks {
		options = append(options, option{w.GetId(), w.GetDisplayName()})
	}
	states := []option{{"", p.pages.words.get("any")}}
	for _, s := range deliveryStates {
		states = append(states, option{s, p.pages.words.get("state." + s)})
	}
	from, to := f.text("from"), f.text("to")
	from.Type, to.Type = "datetime-local", "datetime-local"
	return p.render(status, "replay_form", p.pages.words.get("replay.new"), map[string]any{
		"Fields":  []field{f.text("event"), from, to, f.text("types"), f.choose("webhook", options...), f.choose("state", states...), f.number("rate", "any")},
		"Preview": preview, "Errors": errs,
	})
}

// createReplay previews a replay, and begins it when the reader has seen the preview.
func createReplay(p *page) error {
	sel := &postriderv1.EventSelection{EventId: p.form("event"), WebhookId: p.form("webhook")}
	errs := make(map[string]string)
	for name, at := range map[string]**timestamppb.Timestamp{"from": &sel.StartTime, "to": &sel.EndTime} {
		if text := p.form(name); text != "" {
			t, err := time.Parse("2006-01-02T15:04", text)
			if err != nil {
				errs[name] = p.pages.words.get("form.time")
				continue
			}
			*at = timestamppb.New(t)
		}
	}
	sel.EventTypes = strings.FieldsFunc(p.form("types"), func(r rune) bool { return strings.ContainsRune(", \r\n\t", r) })
	sel.State = postriderv1.DeliveryState(postriderv1.DeliveryState_value["DELIVERY_STATE_"+strings.ToUpper(p.form("state"))])
	rate, err := strconv.ParseFloat(p.form("rate"), 64)
	if err != nil {
		errs["rate"] = p.pages.words.get("form.number")
	}
	if len(errs) > 0 {
		return p.replayPage(http.StatusUnprocessableEntity, p.r.PostForm, errs, nil)
	}
	dry := p.form("go") == ""
	resp, err := p.api.replays.CreateReplay(p.ctx, &postriderv1.CreateReplayRequest{AccountId: p.accountID(), Events: sel, Rate: rate, DryRun: dry})
	if errs, refused := violations(err, "events."); refused {
		for api, name := range map[string]string{"event_id": "event", "start_time": "from", "end_time": "to", "event_types": "types", "webhook_id": "webhook"} {
			if errs[api] != "" {
				errs[name] = errs[api]
			}
		}
		return p.replayPage(http.StatusUnprocessableEntity, p.r.PostForm, errs, nil)
	}
	if err != nil {
		return err
	}
	if dry {
		return p.replayPage(http.StatusOK, p.r.PostForm, nil, resp.GetPreview())
	}
	return p.redirect("replays/"+resp.GetReplay().GetId(), p.ok("replay.begun"))
}

func showReplay(p *page) error {
	resp, err := p.api.replays.GetReplay(p.ctx, &postriderv1.GetReplayRequest{AccountId: p.accountID(), ReplayId: p.r.PathValue("replay")})
	if err != nil {
		return err
	}
	names, _, err := p.webhookNames()
	if err != nil {
		return err
	}
	r := resp.GetReplay()
	running := r.GetState() == postriderv1.ReplayState_REPLAY_STATE_RUNNING || r.GetState() == postriderv1.ReplayState_REPLAY_STATE_ABORTING
	return p.render(http.StatusOK, "replay", p.pages.words.get("replay"), map[string]any{
		"Replay": r, "Running": running, "Names": names, "Redrive": r.GetDeadLetters() != nil, "Rate": fmt.Sprintf("%g", r.GetRate()),
	})
}

func abortReplay(p *page) error {
	id := p.r.PathValue("replay")
	if _, err := p.api.replays.AbortReplay(p.ctx, &postriderv1.AbortReplayRequest{AccountId: p.accountID(), ReplayId: id}); err != nil {
		return err
	}
	return p.redirect("replays/"+id, p.ok("replay.aborted"))
}
