package api_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const reject = postriderv1.SchemaPolicy_SCHEMA_POLICY_REJECT

func (r *rig) createType(t *testing.T, e *postriderv1.EventType) (*postriderv1.EventType, error) {
	t.Helper()
	resp, err := r.eventTypes.CreateEventType(r.ctx(t), &postriderv1.CreateEventTypeRequest{EventType: e})
	return resp.GetEventType(), err
}

func (r *rig) updateSchema(t *testing.T, schema string, allow bool) (*postriderv1.EventType, error) {
	t.Helper()
	resp, err := r.eventTypes.UpdateEventType(r.ctx(t), &postriderv1.UpdateEventTypeRequest{
		EventType:  &postriderv1.EventType{Name: "release.live", Schema: []byte(schema)},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"schema"}}, AllowIncompatibleSchema: allow,
	})
	return resp.GetEventType(), err
}

func requireViolations(t *testing.T, err error, kind fault.Kind, reason string, want ...fault.Violation) {
	t.Helper()
	e, ok := fault.As(fault.FromStatus(err))
	require.True(t, ok, "%v", err)
	require.Equal(t, reason, e.Reason)
	require.Equal(t, kind, e.Kind)
	require.Equal(t, want, e.Violations)
}

func TestASchemasVersionsAreCounted(t *testing.T) {
	t.Parallel()
	r := setup(t)
	e, err := r.createType(t, &postriderv1.EventType{Name: "release.live"})
	require.NoError(t, err)
	require.Zero(t, e.GetSchemaVersion())
	require.Equal(t, postriderv1.SchemaPolicy_SCHEMA_POLICY_OFF, e.GetSchemaPolicy())
	for _, step := range []struct {
		schema  string
		version int32
	}{{`{}`, 1}, {`{}`, 1}, {`{"title":"a"}`, 2}, {``, 2}, {`{"title":"a"}`, 3}} {
		e, err := r.updateSchema(t, step.schema, false)
		require.NoError(t, err)
		require.Equal(t, step.version, e.GetSchemaVersion(), step.schema)
	}
	e, err = r.createType(t, &postriderv1.EventType{Name: "release.gone", Schema: []byte(`{}`), SchemaPolicy: reject, SchemaVersion: 77})
	require.NoError(t, err)
	require.Equal(t, int32(1), e.GetSchemaVersion())
	require.Equal(t, reject, e.GetSchemaPolicy())
}

func TestASchemaThatCannotBeUsedIsRefused(t *testing.T) {
	t.Parallel()
	r := setup(t)
	_, err := r.createType(t, &postriderv1.EventType{Name: "a", Schema: []byte(`{"properties":{"a":{"type":"strin"}}}`)})
	requireFault(t, err, fault.Invalid, "event_type.schema: /properties/a/type: must be")
	_, err = r.createType(t, &postriderv1.EventType{Name: "a", Schema: []byte(`{"$ref":"https://example.com/a.json"}`)})
	requireFault(t, err, fault.Invalid, "event_type.schema: refers to another document")
	_, err = r.createType(t, &postriderv1.EventType{Name: "a", SchemaPolicy: reject})
	requireFault(t, err, fault.Invalid, "event_type.schema_policy: must be OFF without a schema")
	_, err = r.createType(t, &postriderv1.EventType{Name: "a", SchemaPolicy: 9})
	requireFault(t, err, fault.Invalid, "event_type.schema_policy: must be OFF, WARN or REJECT")
}

func TestANarrowerSchemaIsTakenOnlyIfItIsAllowed(t *testing.T) {
	t.Parallel()
	r := setup(t)
	const wide, narrow = `{"properties":{"id":{"type":["integer","string"]}}}`, `{"properties":{"id":{"type":"integer"}},"required":["id"]}`
	_, err := r.createType(t, &postriderv1.EventType{Name: "release.live", Schema: []byte(wide), SchemaPolicy: reject})
	require.NoError(t, err)
	_, err = r.updateSchema(t, narrow, false)
	requireViolations(t, err, fault.Precondition, "SCHEMA_INCOMPATIBLE",
		fault.Violation{Field: "event_type.schema", Rule: "/properties/id/type: string is not taken any more"},
		fault.Violation{Field: "event_type.schema", Rule: `/required: "id" was optional`},
	)
	e, err := r.updateSchema(t, narrow, true)
	require.NoError(t, err)
	require.Equal(t, int32(2), e.GetSchemaVersion())
	e, err = r.updateSchema(t, wide, false)
	require.NoError(t, err, "a wider one is taken")
	require.Equal(t, int32(3), e.GetSchemaVersion())
}

func TestAnImportWithANarrowerSchemaStoresNothing(t *testing.T) {
	t.Parallel()
	r := setup(t)
	_, err := r.createType(t, &postriderv1.EventType{Name: "release.live", Schema: []byte(`{}`)})
	require.NoError(t, err)
	req := &postriderv1.ImportEventTypesRequest{EventTypes: []*postriderv1.EventType{
		{Name: "release.new", Schema: []byte(`{"type":"object"}`)},
		{Name: "release.live", Schema: []byte(`{"type":"object"}`)},
	}}
	_, err = r.eventTypes.ImportEventTypes(r.ctx(t), req)
	requireViolations(t, err, fault.Precondition, "SCHEMA_INCOMPATIBLE",
		fault.Violation{Field: "event_types[1].schema", Rule: "/type: null, boolean, number, string, array is not taken any more"})
	_, err = r.eventTypes.GetEventType(r.ctx(t), &postriderv1.GetEventTypeRequest{Name: "release.new"})
	requireFault(t, err, fault.NotFound, "release.new")
	req.AllowIncompatibleSchema = true
	resp, err := r.eventTypes.ImportEventTypes(r.ctx(t), req)
	require.NoError(t, err)
	require.Equal(t, int32(1), resp.GetCreated())
	got, err := r.eventTypes.GetEventType(r.ctx(t), &postriderv1.GetEventTypeRequest{Name: "release.live"})
	require.NoError(t, err)
	require.Equal(t, int32(2), got.GetEventType().GetSchemaVersion())
}
