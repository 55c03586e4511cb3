package manage

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/postrider/postrider/pkg/eventschema"
	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// reasonIncompatible is why a schema is refused that is narrower than the one before.
const reasonIncompatible = "SCHEMA_INCOMPATIBLE"

// checkSchema fills in the policy and reports what is wrong with the schema.
func checkSchema(e *postriderv1.EventType, path string) []fault.Violation {
	if e.GetSchemaPolicy() == postriderv1.SchemaPolicy_SCHEMA_POLICY_UNSPECIFIED {
		e.SchemaPolicy = postriderv1.SchemaPolicy_SCHEMA_POLICY_OFF
	}
	var v violations
	_, known := postriderv1.SchemaPolicy_name[int32(e.GetSchemaPolicy())]
	v.check(known, path+".schema_policy", "must be OFF, WARN or REJECT")
	if len(e.GetSchema()) == 0 {
		v.check(e.GetSchemaPolicy() == postriderv1.SchemaPolicy_SCHEMA_POLICY_OFF, path+".schema_policy", "must be OFF without a schema")
		return v
	}
	if _, err := eventschema.Compile(e.GetSchema()); err != nil {
		broken, ok := errors.AsType[*eventschema.InvalidError](err)
		if !ok {
			v.check(false, path+".schema", err.Error())
			return v
		}
		for _, b := range broken.Violations {
			v.check(false, path+".schema", b.String())
		}
	}
	return v
}

// countSchema gives the schema of an entry its version: the one before, or one more if it changed.
// A schema that is taken away leaves its number, so that the next one does not get it again.
func countSchema(old, next *postriderv1.EventType) {
	next.SchemaVersion = old.GetSchemaVersion()
	if len(next.GetSchema()) > 0 && !bytes.Equal(old.GetSchema(), next.GetSchema()) {
		next.SchemaVersion++
	}
}

// narrowings is where the schema of an entry refuses what the one before took. Both were checked.
func narrowings(old, next *postriderv1.EventType, path string) []fault.Violation {
	if len(old.GetSchema()) == 0 || len(next.GetSchema()) == 0 || bytes.Equal(old.GetSchema(), next.GetSchema()) {
		return nil
	}
	before, err := eventschema.Compile(old.GetSchema())
	if err != nil {
		return nil // this version cannot read the one before; nothing can be said of it
	}
	after, err := eventschema.Compile(next.GetSchema())
	if err != nil {
		return []fault.Violation{{Field: path + ".schema", Rule: err.Error()}}
	}
	var v []fault.Violation
	for _, n := range eventschema.Compatible(before, after) {
		rule := n.Change
		if n.Pointer != "" {
			rule = n.Pointer + ": " + rule
		}
		v = append(v, fault.Violation{Field: path + ".schema", Rule: rule})
	}
	return v
}

func errNarrowed(narrowed []fault.Violation) error {
	e := fault.New(fault.Precondition, reasonIncompatible,
		"the schema refuses data that the one before took; allow_incompatible_schema takes it all the same")
	e.Violations = narrowed
	return e
}

// checkImportedSchemas compares all schemas of an import with what stands in the catalogue, so that
// nothing is stored if one of them narrows.
func (s *Server) checkImportedSchemas(ctx context.Context, account string, given []*postriderv1.EventType) error {
	next := make(map[string]int)
	for i, e := range given {
		if len(e.GetSchema()) > 0 {
			next[e.GetName()] = i
		}
	}
	if len(next) == 0 {
		return nil
	}
	catalogue, err := s.deps.Store.ListEventTypes(ctx, account, "", 0)
	if err != nil {
		return stored(err, "event types", "")
	}
	var narrowed []fault.Violation
	for _, entry := range catalogue {
		old := entry.Record.GetEventType()
		if i, ok := next[old.GetName()]; ok {
			narrowed = append(narrowed, narrowings(old, given[i], fmt.Sprintf("event_types[%d]", i))...)
		}
	}
	if len(narrowed) > 0 {
		return errNarrowed(narrowed)
	}
	return nil
}
