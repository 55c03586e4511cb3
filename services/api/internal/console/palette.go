package console

import (
	"encoding/json"
	"net/url"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// paletteEntry is a place that the palette goes to.
type paletteEntry struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	Href string `json:"href"`
	ID   string `json:"id,omitempty"`
}

// paletteEntries are the account's own things, for the palette's script.
func paletteEntries(p *page) error {
	hooks, err := p.allWebhooks()
	if err != nil {
		return err
	}
	types, err := p.allEventTypes()
	if err != nil {
		return err
	}
	entries := []paletteEntry{}
	for _, w := range hooks {
		entries = append(entries, paletteEntry{w.GetDisplayName(), p.pages.words.get("palette.webhook"), p.base + "webhooks/" + w.GetId(), w.GetId() + " " + w.GetUrl()})
	}
	for _, t := range types {
		entries = append(entries, paletteEntry{t.GetName(), p.pages.words.get("event.type"), p.base + "event-types/" + url.PathEscape(t.GetName()), t.GetGroup()})
	}
	p.w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(p.w).Encode(entries)
}

// allEventTypes reads the account's catalogue, at most a thousand entries.
func (p *page) allEventTypes() ([]*postriderv1.EventType, error) {
	resp, err := p.api.eventTypes.ListEventTypes(p.ctx, &postriderv1.ListEventTypesRequest{AccountId: p.accountID(), PageSize: 1000})
	return resp.GetEventTypes(), err
}
