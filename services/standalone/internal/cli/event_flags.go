package cli

import (
	"slices"

	"github.com/spf13/pflag"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// eventFlags are the flags that say what an event is.
type eventFlags struct {
	data        string
	contentType string
	id          string
	source      string
	time        string
	labels      []string
	orderingKey string
	deliverAt   string
	extensions  []string
}

// eventFlagNames are their names.
var eventFlagNames = []string{"data", "content-type", "id", "source", "time", "label", "ordering-key", "deliver-at", "extension"}

func (e *eventFlags) add(f *pflag.FlagSet) {
	f.StringVar(&e.data, "data", "{}", "payload: the text itself, @file, or - for the input")
	f.StringVar(&e.contentType, "content-type", "", "media type of the payload; default: application/json")
	f.StringVar(&e.id, "id", "", "your own id of the event; with --source it deduplicates")
	f.StringVar(&e.source, "source", "", "where it happened, in your own terms")
	f.StringVar(&e.time, "time", "", "when it happened, such as 2026-11-21T18:00:00Z or -5m; default: now")
	f.StringArrayVar(&e.labels, "label", nil, "key=value, for scopes and filters; can be repeated")
	f.StringVar(&e.orderingKey, "ordering-key", "", "what keeps its order where a webhook asks for it")
	f.StringVar(&e.deliverAt, "deliver-at", "", "deliver not before this time, such as 2026-11-22T08:00:00Z or +10m")
	f.StringArrayVar(&e.extensions, "extension", nil, "name=value, a CloudEvents attribute; can be repeated")
}

// changed reports whether any of the flags was given.
func (e *eventFlags) changed(f *pflag.FlagSet) bool {
	return slices.ContainsFunc(eventFlagNames, f.Changed)
}

// event is what the flags say.
func (e *eventFlags) event(p *program, eventType string) (*postriderv1.EventInput, error) {
	data, err := p.data("--data", e.data)
	if err != nil {
		return nil, err
	}
	when, err := moment("--time", e.time, p.now())
	if err != nil {
		return nil, err
	}
	at, err := moment("--deliver-at", e.deliverAt, p.now())
	if err != nil {
		return nil, err
	}
	labels, err := keyValues("--label", "=", e.labels)
	if err != nil {
		return nil, err
	}
	extensions, err := keyValues("--extension", "=", e.extensions)
	if err != nil {
		return nil, err
	}
	return &postriderv1.EventInput{
		Id: e.id, Source: e.source, Type: eventType, Time: when, Labels: labels, ContentType: e.contentType,
		Data: data, OrderingKey: e.orderingKey, DeliverAt: at, Extensions: extensions,
	}, nil
}
