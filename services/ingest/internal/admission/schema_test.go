package admission

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/fault"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const trackSchema = `{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"a.b":{"type":"string"},"list":{"items":{"minimum":1}}}}`

func (b *bundle) eventType(policy postriderv1.SchemaPolicy, schema string, version int32) {
	b.dir.PutEventType(&recordv1.EventType{EventType: &postriderv1.EventType{
		AccountId: string(acc), Name: "release.live", Schema: []byte(schema), SchemaPolicy: policy, SchemaVersion: version,
	}})
}

func TestDataThatBreakTheirSchemaAreRefusedBeforeAnythingIsStored(t *testing.T) {
	b := setup(t, patient())
	b.eventType(postriderv1.SchemaPolicy_SCHEMA_POLICY_REJECT, trackSchema, 3)
	a := b.start(t)
	e := refused(t, a, one(withKey("k"), withData(`{"a.b":1,"list":[1,0]}`)), fault.Invalid, ReasonSchemaViolation)
	require.Equal(t, []fault.Violation{
		{Field: `event.data["a.b"]`, Rule: "must be string"},
		{Field: "event.data.id", Rule: "is required"},
		{Field: "event.data.list[1]", Rule: "must be at least 1"},
	}, e.Violations)
	require.Equal(t, map[string]string{"type": "release.live", "schema_version": "3"}, e.Metadata)
	_, problem := fault.Problem(&e, "")
	require.Contains(t, string(problem), `"pointer":"#/event/data/a.b"`)
	require.Contains(t, string(problem), `"pointer":"#/event/data/list/1"`)

	// The key was not taken, and data that are as they should be leave no trace of the check.
	receipt := accept(t, a, one(withKey("k"), withData(`{"id":1}`)))
	require.False(t, receipt.GetDuplicate())
	require.Empty(t, receipt.GetWarnings())
	require.Equal(t, uint64(1), receipt.GetSequence())
}

func TestDataThatAreNoJSONBreakEverySchema(t *testing.T) {
	b := setup(t, patient())
	b.eventType(postriderv1.SchemaPolicy_SCHEMA_POLICY_REJECT, `{}`, 1)
	refused(t, b.start(t), one(withData("<x/>"), withEvent(func(ev *postriderv1.EventInput) { ev.ContentType = "application/xml" })),
		fault.Invalid, ReasonSchemaViolation)
}

func TestAWarningIsInTheReceipt(t *testing.T) {
	b := setup(t, patient())
	b.eventType(postriderv1.SchemaPolicy_SCHEMA_POLICY_WARN, trackSchema, 2)
	require.Equal(t, []string{`the data break version 2 of the schema of "release.live": /id: must be integer`},
		accept(t, b.start(t), one(withData(`{"id":"1"}`))).GetWarnings())
}

func TestTheLatestSchemaHolds(t *testing.T) {
	b := setup(t, patient())
	a := b.start(t)
	b.eventType(postriderv1.SchemaPolicy_SCHEMA_POLICY_REJECT, trackSchema, 1)
	refused(t, a, one(withData(`{}`)), fault.Invalid, ReasonSchemaViolation)
	b.eventType(postriderv1.SchemaPolicy_SCHEMA_POLICY_REJECT, `{"type":"object"}`, 2)
	accept(t, a, one(withData(`{}`)))
	b.eventType(postriderv1.SchemaPolicy_SCHEMA_POLICY_OFF, trackSchema, 3)
	accept(t, a, one(withData(`{}`)))
	b.eventType(postriderv1.SchemaPolicy_SCHEMA_POLICY_REJECT, "", 3)
	accept(t, a, one(withData(`{}`)))
}

func TestASchemaThatCannotBeReadRefusesOrWarnsAsItWould(t *testing.T) {
	b := setup(t, patient())
	a := b.start(t)
	b.eventType(postriderv1.SchemaPolicy_SCHEMA_POLICY_REJECT, `{"type":"nothing known"}`, 1)
	refused(t, a, one(), fault.Unavailable, ReasonSchemaUnusable)
	b.eventType(postriderv1.SchemaPolicy_SCHEMA_POLICY_WARN, `{"type":"nothing known"}`, 1)
	require.Len(t, accept(t, a, one()).GetWarnings(), 1)
}

func TestStrictAccountsTakeOnlyDataThatECMAScriptWritesSo(t *testing.T) {
	b := setup(t, patient())
	a := b.start(t)
	accept(t, a, one(withData(`{"n": 1.0}`)))
	b.dir.PutAccount(&recordv1.Account{Account: &postriderv1.Account{Id: string(acc), StrictJson: true}})
	accept(t, a, one(withData(`{"n":1}`)))
	accept(t, a, one(withData("n: 1.0"), withEvent(func(ev *postriderv1.EventInput) { ev.ContentType = "text/yaml" })))
	e := refused(t, a, one(withData(`{"n":1.0}`)), fault.Invalid, ReasonNotStable)
	require.Equal(t, "event.data", e.Violations[0].Field)
	require.Contains(t, e.Violations[0].Rule, "JSON.stringify")
}

// BenchmarkCheck times what admission does with a kilobyte before it asks any store.
func BenchmarkCheck(b *testing.B) {
	schema := `{"type":"object","required":["text"],"properties":{"text":{"type":"string","maxLength":2000}}}`
	for _, bench := range []struct {
		name   string
		policy postriderv1.SchemaPolicy
		schema string
	}{
		{"without a schema", postriderv1.SchemaPolicy_SCHEMA_POLICY_OFF, ""},
		{"with a schema that is off", postriderv1.SchemaPolicy_SCHEMA_POLICY_OFF, schema},
		{"with a schema that rejects", postriderv1.SchemaPolicy_SCHEMA_POLICY_REJECT, schema},
	} {
		b.Run(bench.name, func(b *testing.B) {
			all := setup(b, Default())
			all.eventType(bench.policy, bench.schema, 1)
			a := all.replica(b)
			r := one(withData(kilobyte))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := a.check(r, time.Time{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
