package cli

import (
	"context"

	"github.com/spf13/cobra"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func (p *program) eventTypesCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "event-types",
		Aliases: []string{"event-type"},
		Short:   "Manage the catalogue of event types",
		Long: `The catalogue says which event types an account has, for people, for tests, and for accounts
that refuse types that are not in it.`,
	}, p.eventTypesList(), p.eventTypesShow(), p.eventTypesImport(), p.eventTypesCreate(), p.eventTypesUpdate(), p.eventTypesDelete())
}

func (p *program) eventTypesList() *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use:     "list",
		Short:   "List event types by name",
		Example: "  postrider event-types list\n  postrider event-types list --limit 0 -o json > catalogue.json",
		Args:    cobra.NoArgs,
	}
	limitFlag(c, &limit)
	c.RunE = p.remote(func(ctx context.Context, cl *client, _ []string) error {
		list, next, err := pages(limit, func(size int32, token string) ([]*postriderv1.EventType, string, error) {
			resp, err := cl.eventTypes.ListEventTypes(ctx, &postriderv1.ListEventTypesRequest{AccountId: cl.account, PageSize: size, PageToken: token})
			return resp.GetEventTypes(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		defer p.more(len(list), next)
		return p.show(&postriderv1.ListEventTypesResponse{EventTypes: list, NextPageToken: next}, func(t *table) {
			t.row("NAME", "GROUP", "DESCRIPTION")
			for _, e := range list {
				t.row(e.GetName(), cell(e.GetGroup()), e.GetDescription())
			}
		})
	})
	return c
}

func (p *program) eventTypesDelete() *cobra.Command {
	c := &cobra.Command{
		Use:     "delete NAME",
		Short:   "Remove an event type; events already accepted are untouched",
		Example: "  postrider event-types delete order.paid",
		Args:    cobra.ExactArgs(1),
	}
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		resp, err := cl.eventTypes.DeleteEventType(ctx, &postriderv1.DeleteEventTypeRequest{AccountId: cl.account, Name: args[0]})
		if err != nil {
			return err
		}
		return p.done(resp, "deleted %s", args[0])
	})
	return c
}

func (p *program) eventTypesImport() *cobra.Command {
	var narrower bool
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "Add or replace the event types of a catalogue",
		Long: `Add or replace the event types of a catalogue; FILE is - for the input. A catalogue is JSON:

  {"event_types": [
    {"name": "order.paid", "group": "Orders", "description": "An order was paid",
     "example": {"id": "ord_1", "total": 120}}
  ]}

An example is any JSON value but a string, and is kept as it is written; a string is base64 of the
example, as "event-types list -o json" prints it. The same holds for "schema", the JSON Schema of
the data; "schema_policy" is off, warn or reject.`,
		Example: "  postrider event-types import catalogues/jewelmusic.json",
		Args:    cobra.ExactArgs(1),
	}
	allowNarrower(c, &narrower)
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		text, err := p.file("FILE", args[0])
		if err != nil {
			return err
		}
		list, err := parseCatalogue(text)
		if err != nil {
			return usagef("%s: %w", args[0], err)
		}
		total := &postriderv1.ImportEventTypesResponse{}
		for len(list) > 0 {
			n := min(len(list), maxPage)
			resp, err := cl.eventTypes.ImportEventTypes(ctx, &postriderv1.ImportEventTypesRequest{
				AccountId: cl.account, EventTypes: list[:n], AllowIncompatibleSchema: narrower,
			})
			if err != nil {
				return err
			}
			total.Created += resp.GetCreated()
			total.Updated += resp.GetUpdated()
			list = list[n:]
		}
		return p.done(total, "%d created, %d updated", total.GetCreated(), total.GetUpdated())
	})
	return c
}
