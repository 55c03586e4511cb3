package console

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// typeGroup is a group of the catalogue.
type typeGroup struct {
	Name  string
	Types []chosenType
}

type chosenType struct {
	*postriderv1.EventType
	Chosen bool
	Name   string
}

// groupTypes puts a catalogue into its groups, in the order of their names; what has none comes last.
func groupTypes(types []*postriderv1.EventType, chosen []string) []typeGroup {
	byName := make(map[string]*typeGroup)
	var groups []*typeGroup
	for _, t := range types {
		g := byName[t.GetGroup()]
		if g == nil {
			g = &typeGroup{Name: cmp.Or(t.GetGroup(), "…")}
			byName[t.GetGroup()] = g
			groups = append(groups, g)
		}
		g.Types = append(g.Types, chosenType{t, slices.Contains(chosen, t.GetName()), t.GetName()})
	}
	slices.SortFunc(groups, func(a, b *typeGroup) int {
		return cmp.Or(cmp.Compare(rank(a.Name == "…"), rank(b.Name == "…")), cmp.Compare(a.Name, b.Name))
	})
	out := make([]typeGroup, len(groups))
	for i, g := range groups {
		out[i] = *g
	}
	return out
}

func listEventTypes(p *page) error {
	types, err := p.allEventTypes()
	if err != nil {
		return err
	}
	return p.render(http.StatusOK, "event_types", p.pages.words.get("nav.event-types"), map[string]any{"Groups": groupTypes(types, nil)})
}

func (p *page) eventType() (*postriderv1.EventType, error) {
	resp, err := p.api.eventTypes.GetEventType(p.ctx, &postriderv1.GetEventTypeRequest{AccountId: p.accountID(), Name: p.r.PathValue("type")})
	return resp.GetEventType(), err
}

func showEventType(p *page) error {
	t, err := p.eventType()
	if err != nil {
		return err
	}
	return p.render(http.StatusOK, "event_type", t.GetName(), map[string]any{"Type": t, "Policy": policyName(t.GetSchemaPolicy())})
}

var policies = map[string]postriderv1.SchemaPolicy{
	"off": postriderv1.SchemaPolicy_SCHEMA_POLICY_OFF, "warn": postriderv1.SchemaPolicy_SCHEMA_POLICY_WARN, "reject": postriderv1.SchemaPolicy_SCHEMA_POLICY_REJECT,
}

func policyName(policy postriderv1.SchemaPolicy) string {
	for name, each := range policies {
		if each == policy {
			return name
		}
	}
	return "off"
}

func newEventType(p *page) error { return p.eventTypePage(http.StatusOK, url.Values{}, nil) }

func editEventType(p *page) error {
	t, err := p.eventType()
	if err != nil {
		return err
	}
	return p.eventTypePage(http.StatusOK, url.Values{
		"group": {t.GetGroup()}, "description": {t.GetDescription()}, "example": {shownText(t.GetExample())}, "schema": {shownText(t.GetSchema())},
		"schema_policy": {policyName(t.GetSchemaPolicy())}, "etag": {t.GetEtag()},
	}, nil)
}

func (p *page) eventTypePage(status int, values url.Values, errs map[string]string) error {
	f := formFields{words: p.pages.words, form: "type", values: values, errors: errs}
	var fields []field
	name := p.r.PathValue("type")
	if name == "" {
		fields = append(fields, f.required("name"))
	}
	fields = append(fields, f.text("group"), f.text("description"), f.area("example", 6), f.area("schema", 8), f.choose("schema_policy", f.named("off", "warn", "reject")...))
	return p.render(status, "event_type_form", p.pages.words.get("type.edit"), map[string]any{
		"Name": name, "Fields": fields, "Etag": values.Get("etag"), "Errors": errs, "Incompatible": errs["schema"] != "",
	})
}

// saveEventType creates an entry, or changes the one in the address.
func saveEventType(p *page) error {
	name := p.r.PathValue("type")
	t := &postriderv1.EventType{
		Name: cmp.Or(name, p.form("name")), Group: p.form("group"), Description: p.form("description"), Etag: p.form("etag"),
		Example: []byte(p.form("example")), Schema: []byte(p.form("schema")), SchemaPolicy: policies[p.form("schema_policy")],
	}
	var err error
	if name == "" {
		t.Etag = ""
		_, err = p.api.eventTypes.CreateEventType(p.ctx, &postriderv1.CreateEventTypeRequest{AccountId: p.accountID(), EventType: t})
	} else {
		_, err = p.api.eventTypes.UpdateEventType(p.ctx, &postriderv1.UpdateEventTypeRequest{
			AccountId: p.accountID(), EventType: t, AllowIncompatibleSchema: p.form("incompatible") != "",
			UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"group", "description", "example", "schema", "schema_policy"}},
		})
	}
	if errs, refused := violations(err, "event_type."); refused {
		return p.eventTypePage(http.StatusUnprocessableEntity, p.r.PostForm, errs)
	}
	if err != nil {
		return err
	}
	return p.redirect("event-types/"+url.PathEscape(t.GetName()), p.ok("type.saved"))
}

func deleteEventType(p *page) error {
	_, err := p.api.eventTypes.DeleteEventType(p.ctx, &postriderv1.DeleteEventTypeRequest{AccountId: p.accountID(), Name: p.r.PathValue("type")})
	if err != nil {
		return err
	}
	return p.redirect("event-types", p.ok("type.deleted"))
}
