package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// schemaPolicies are the words for what happens to events that break their schema.
var schemaPolicies = map[string]postriderv1.SchemaPolicy{
	"off": postriderv1.SchemaPolicy_SCHEMA_POLICY_OFF, "warn": postriderv1.SchemaPolicy_SCHEMA_POLICY_WARN,
	"reject": postriderv1.SchemaPolicy_SCHEMA_POLICY_REJECT,
}

// eventTypeFlags are the fields of an event type as flags.
type eventTypeFlags struct {
	e                       postriderv1.EventType
	example, schema, policy string
}

func (f *eventTypeFlags) add(c *cobra.Command) {
	fs := c.Flags()
	fs.StringVar(&f.e.Group, "group", "", "group in the catalogue")
	fs.StringVar(&f.e.Description, "description", "", "for people")
	fs.StringVar(&f.example, "example", "", "example payload, which tests send: the text itself, @file, or - for the input")
	fs.StringVar(&f.e.ExampleContentType, "example-content-type", "", "media type of the example; default: application/json")
	fs.StringVar(&f.schema, "schema", "", "JSON Schema (2020-12) of the data: the text itself, @file, or - for the input")
	fs.StringVar(&f.policy, "schema-policy", "", "what happens to events that break the schema: off, warn or reject; default: off")
}

// read fills the event type from the flags and says which of its fields were given.
func (f *eventTypeFlags) read(p *program, c *cobra.Command) ([]string, error) {
	var given []string
	for flag, field := range map[string]string{
		"group": "group", "description": "description", "example": "example", "example-content-type": "example_content_type",
		"schema": "schema", "schema-policy": "schema_policy",
	} {
		if c.Flags().Changed(flag) {
			given = append(given, field)
		}
	}
	slices.Sort(given)
	for flag, to := range map[string]struct {
		text string
		data *[]byte
	}{"--example": {f.example, &f.e.Example}, "--schema": {f.schema, &f.e.Schema}} {
		if to.text == "" {
			continue
		}
		data, err := p.data(flag, to.text)
		if err != nil {
			return nil, err
		}
		*to.data = data
	}
	if f.policy != "" {
		policy, ok := schemaPolicies[f.policy]
		if !ok {
			return nil, usagef("--schema-policy must be one of %s", strings.Join(slices.Sorted(maps.Keys(schemaPolicies)), ", "))
		}
		f.e.SchemaPolicy = policy
	}
	return given, nil
}

func allowNarrower(c *cobra.Command, allow *bool) {
	c.Flags().BoolVar(allow, "allow-incompatible-schema", false, "take a schema that refuses data that the one before took")
}

func (p *program) showEventType(e *postriderv1.EventType) error {
	return p.show(e, func(t *table) {
		t.field("name", e.GetName())
		t.field("group", e.GetGroup())
		t.field("description", e.GetDescription())
		t.field("example", excerpt(e.GetExample()))
		if len(e.GetSchema()) > 0 {
			policy := strings.ToLower(strings.TrimPrefix(e.GetSchemaPolicy().String(), "SCHEMA_POLICY_"))
			t.field("schema", fmt.Sprintf("version %d, %s: %s", e.GetSchemaVersion(), policy, excerpt(e.GetSchema())))
		}
		t.field("etag", e.GetEtag())
	})
}

func (p *program) eventTypesShow() *cobra.Command {
	c := &cobra.Command{
		Use:     "show NAME",
		Short:   "Show an event type",
		Example: "  postrider event-types show order.paid",
		Args:    cobra.ExactArgs(1),
	}
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		resp, err := cl.eventTypes.GetEventType(ctx, &postriderv1.GetEventTypeRequest{AccountId: cl.account, Name: args[0]})
		if err != nil {
			return err
		}
		return p.showEventType(resp.GetEventType())
	})
	return c
}

func (p *program) eventTypesCreate() *cobra.Command {
	var flags eventTypeFlags
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Add an event type",
		Example: `  postrider event-types create order.paid --group Orders --description "An order was paid" \
      --example '{"id":"ord_1","total":120}'
  postrider event-types create order.paid --schema @order-paid.schema.json --schema-policy reject`,
		Args: cobra.ExactArgs(1),
	}
	flags.add(c)
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		if _, err := flags.read(p, c); err != nil {
			return err
		}
		flags.e.Name = args[0]
		resp, err := cl.eventTypes.CreateEventType(ctx, &postriderv1.CreateEventTypeRequest{AccountId: cl.account, EventType: &flags.e})
		if err != nil {
			return err
		}
		return p.showEventType(resp.GetEventType())
	})
	return c
}

func (p *program) eventTypesUpdate() *cobra.Command {
	var flags eventTypeFlags
	var narrower bool
	c := &cobra.Command{
		Use:   "update NAME",
		Short: "Change an event type; what is not given stays",
		Long: `Change an event type; what is not given stays, and what is given as "" is taken away.

A schema that refuses data that the one before took is not taken, unless you allow it: the places
where it does are named.`,
		Example: `  postrider event-types update order.paid --schema @order-paid.schema.json --schema-policy warn
  postrider event-types update order.paid --schema "" --schema-policy off`,
		Args: cobra.ExactArgs(1),
	}
	flags.add(c)
	allowNarrower(c, &narrower)
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		given, err := flags.read(p, c)
		if err != nil {
			return err
		}
		if len(given) == 0 {
			return usagef("nothing to change is given")
		}
		flags.e.Name = args[0]
		resp, err := cl.eventTypes.UpdateEventType(ctx, &postriderv1.UpdateEventTypeRequest{
			AccountId: cl.account, EventType: &flags.e, UpdateMask: &fieldmaskpb.FieldMask{Paths: given}, AllowIncompatibleSchema: narrower,
		})
		if err != nil {
			return err
		}
		return p.showEventType(resp.GetEventType())
	})
	return c
}
