package eventschema_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/eventschema"
)

func compile(t testing.TB, text string) *eventschema.Schema {
	t.Helper()
	s, err := eventschema.Compile([]byte(text))
	require.NoError(t, err)
	return s
}

const release = `{
	"$schema": "https://json-schema.org/draft/2020-12/schema",
	"type": "object",
	"required": ["id", "tracks"],
	"properties": {
		"id": {"type": "integer", "minimum": 1, "maximum": 9007199254740993},
		"upc": {"type": "string", "pattern": "^[0-9]{12,13}$"},
		"price": {"type": "number", "multipleOf": 0.01},
		"status": {"enum": ["live", "draft", null]},
		"tracks": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/track"}}
	},
	"additionalProperties": false,
	"$defs": {"track": {"type": "object", "required": ["title"], "properties": {"title": {"type": "string", "minLength": 1}}}}
}`

func TestValidate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		data string
		want []string
	}{
		"data as the schema says":          {`{"id":1,"tracks":[{"title":"Decaf"}],"status":null,"price":1.10}`, nil},
		"an integer may have a fraction 0": {`{"id":1.0,"tracks":[{"title":"Decaf"}]}`, nil},
		"a number is exact beyond 2^53": {
			`{"id":9007199254740994,"tracks":[{"title":"x"}]}`, []string{"/id: must be at most 9007199254740993"},
		},
		"a decimal is exact": {`{"id":1,"tracks":[{"title":"x"}],"price":0.30000000000000004}`, []string{"/price: must be a multiple of 0.01"}},
		"every broken rule is told, in order": {
			`{"id":0,"upc":"12","x/y~z":1,"tracks":[{"title":""},{}],"status":"gone"}`,
			[]string{
				"/id: must be at least 1",
				`/status: must be one of "live","draft",null`,
				"/tracks/0/title: must have at least 1 characters",
				"/tracks/1/title: is required",
				"/upc: must match ^[0-9]{12,13}$",
				"/x~1y~0z: is not a member that the schema allows",
			},
		},
		"the root itself":                 {`[]`, []string{"must be object"}},
		"a member that stands twice":      {`{"id":1,"id":2,"tracks":[{"title":"x"}]}`, []string{"/id: stands twice in its object"}},
		"what is no JSON":                 {`{"id":`, []string{"/id: must be well-formed JSON"}},
		"more than one value":             {`{} {}`, []string{"must be one JSON value"}},
		"a number that would cost memory": {`{"id":1e999999}`, []string{"/id: a number's exponent must be from -1024 to 1024"}},
	}
	s := compile(t, release)
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, v := range s.Validate([]byte(tc.data)) {
				got = append(got, v.String())
			}
			require.Equal(t, tc.want, got)
		})
	}
}

func TestViolationsNameTheKeyword(t *testing.T) {
	t.Parallel()
	got := compile(t, release).Validate([]byte(`{"id":1,"tracks":[{"title":7}]}`))
	require.Equal(t, []eventschema.Violation{{Pointer: "/tracks/0/title", Keyword: "/$defs/track/properties/title/type", Rule: "must be string"}}, got)
}

func TestViolationsHoldNothingOfTheData(t *testing.T) {
	t.Parallel()
	s := compile(t, `{"properties":{"a":{"pattern":"^x$"},"b":{"const":1},"c":{"maximum":3},"d":{"maxLength":1},"e":{"not":{"type":"string"}}}}`)
	for _, v := range s.Validate([]byte(`{"a":"secret","b":"secret","c":4711,"d":"secret","e":"secret"}`)) {
		require.NotContains(t, v.String(), "secret")
		require.NotContains(t, v.String(), "4711")
	}
}

func TestViolationsAreBounded(t *testing.T) {
	t.Parallel()
	s := compile(t, `{"items":{"type":"string"}}`)
	require.Len(t, s.Validate([]byte("["+strings.Repeat("1,", 5000)+"1]")), 20)
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ schema, pointer, rule string }{
		"what is no JSON":                    {`{`, "", "must be well-formed JSON"},
		"what is no schema":                  {`{"type":"strin"}`, "/type", "must be"},
		"a schema that is no object":         {`7`, "", "must be boolean or object"},
		"a reference to the network":         {`{"$ref":"https://example.com/schema.json"}`, "", "refers to another document"},
		"a reference to a file":              {`{"$ref":"file:///etc/passwd"}`, "", "refers to another document"},
		"a relative reference to a document": {`{"properties":{"a":{"$ref":"other.json"}}}`, "", "refers to another document"},
		"a reference to nothing":             {`{"$ref":"#/$defs/none"}`, "", "not found"},
		"another dialect":                    {`{"$schema":"http://json-schema.org/draft-07/schema#"}`, "/$schema", "must be https://json-schema.org/draft/2020-12/schema"},
		"a dialect of its own":               {`{"$schema":"https://example.com/mine"}`, "/$schema", "must be https://json-schema.org/draft/2020-12/schema"},
		"a pattern that cannot be read":      {`{"properties":{"a":{"pattern":"(?=x)"}}}`, "/properties/a/pattern", "regular expression"},
		"a reference by name":                {`{"$dynamicRef":"#x"}`, "/$dynamicRef", "is not taken"},
		"a schema that is only itself":       {`{"anyOf":[{"type":"string"},{"$ref":"#"}]}`, "", "refers to itself without end"},
		"members that are only themselves":   {`{"properties":{"a":{"not":{"$ref":"#/properties/a"}}}}`, "", "refers to itself without end"},
		"a text that is too long":            {`{"description":"` + strings.Repeat("x", 64<<10) + `"}`, "", "must be at most 65536 bytes"},
		"a text that is nested too deep":     {strings.Repeat(`{"not":`, 65) + `{}` + strings.Repeat(`}`, 65), strings.Repeat("/not", 64), "must not be nested deeper than 64 levels"},
		"too many subschemas":                {`{"anyOf":[` + strings.Repeat(`{},`, 5000) + `{}]}`, "", "at most 4096 objects"},
		"a member that stands twice":         {`{"type":"object","type":"string"}`, "/type", "stands twice"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := eventschema.Compile([]byte(tc.schema))
			broken, ok := errors.AsType[*eventschema.InvalidError](err)
			require.True(t, ok, "%v", err)
			require.NotEmpty(t, broken.Violations)
			if tc.pointer != "" {
				require.Equal(t, tc.pointer, broken.Violations[0].Pointer)
			}
			require.Contains(t, broken.Error(), tc.rule)
		})
	}
}

// doubling is a chain of n definitions, each of which applies the next one twice.
func doubling(n int, apply string) string {
	var b strings.Builder
	b.WriteString(`{"$ref":"#/$defs/d0","$defs":{`)
	for i := range n {
		fmt.Fprintf(&b, `"d%d":%s,`, i, strings.ReplaceAll(apply, "NEXT", fmt.Sprintf(`{"$ref":"#/$defs/d%d"}`, i+1)))
	}
	fmt.Fprintf(&b, `"d%d":{"type":"string"}}}`, n)
	return b.String()
}

func TestWorkIsBounded(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ schema, data string }{
		"references that double":               {doubling(40, `{"allOf":[NEXT,NEXT]}`), `1`},
		"alternatives that double":             {doubling(40, `{"anyOf":[NEXT,NEXT]}`), `1`},
		"alternatives below not that double":   {`{"not":` + doubling(40, `{"dependentSchemas":{"a":NEXT,"b":NEXT}}`) + `}`, `{"a":1,"b":1}`},
		"items that double":                    {`{"$defs":{"x":{"items":{"$ref":"#/$defs/x"},"contains":{"$ref":"#/$defs/x"}}},"not":{"$ref":"#/$defs/x"}}`, strings.Repeat("[", 100) + strings.Repeat("]", 100)},
		"a long list of constants":             {`{"items":{"enum":[` + strings.Repeat("1,", 20000) + `2]}}`, "[" + strings.Repeat("3,", 400000) + "3]"},
		"a pattern that is slow on long texts": {`{"items":{"pattern":"(x{1,100}y{1,100}z?){1,4}$"}}`, `["` + strings.Repeat("x", 1<<20) + `"]`},
		"lists of what is left over":           {`{"unevaluatedProperties":false,"anyOf":[` + strings.Repeat(`{"type":"object"},`, 3000) + `{}]}`, `{` + members(30000) + `}`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			schema := tc.schema
			if strings.HasPrefix(schema, `{"not":{"$ref":"#/$defs/d0"`) { // definitions stand at the root
				schema = strings.Replace(strings.TrimSuffix(schema, "}"), `{"not":{"$ref":"#/$defs/d0",`, `{"not":{"$ref":"#/$defs/d0"},`, 1)
			}
			require.Equal(t, []eventschema.Violation{{Rule: "takes too much work to be held against the schema"}}, compile(t, schema).Validate([]byte(tc.data)))
		})
	}
}

func members(n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf(`"m%d":1`, i)
	}
	return strings.Join(parts, ",")
}

func TestLargeDataFit(t *testing.T) {
	t.Parallel()
	s := compile(t, `{"items":{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"name":{"type":"string","pattern":"^[a-z ]*$"},"kind":{"enum":["a","b","c"]}}}}`)
	data := "[" + strings.Repeat(`{"id":12345,"name":"a name of some length","kind":"b"},`, 20000) + `{"id":1}]`
	require.Less(t, 1<<20, len(data))
	require.Empty(t, s.Validate([]byte(data)))
}

func TestSchemaMayHoldItself(t *testing.T) {
	t.Parallel()
	s := compile(t, `{"allOf":[{"properties":{"next":{"anyOf":[{"$ref":"#"},{"type":"null"}]},"v":{"type":"integer"}}}]}`)
	require.Empty(t, s.Validate([]byte(`{"v":1,"next":{"v":2,"next":null}}`)))
	require.Len(t, s.Validate([]byte(`{"v":1,"next":{"v":"2","next":null}}`)), 1)
}

func TestSchemaIsSharedByGoroutines(t *testing.T) {
	t.Parallel()
	s := compile(t, release)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 50 {
				if got := s.Validate([]byte(`{"id":1,"tracks":[{"title":7}]}`)); len(got) != 1 {
					t.Errorf("got %v", got)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzValidate(f *testing.F) {
	f.Add([]byte(release), []byte(`{"id":1,"tracks":[{"title":7}]}`))
	f.Add([]byte(`{"items":{"uniqueItems":true},"$ref":"#/items"}`), []byte(`[[1,1.0],{"a":[]}]`))
	f.Add([]byte(`{"unevaluatedItems":{"const":1e5},"prefixItems":[true]}`), []byte(`[0,1e5]`))
	f.Fuzz(func(t *testing.T, schema, data []byte) {
		s, err := eventschema.Compile(schema)
		if err != nil {
			return
		}
		first := s.Validate(data)
		if len(first) > 20 {
			t.Fatalf("%d violations", len(first))
		}
		if len(eventschema.Compatible(s, s)) > 0 {
			t.Fatal("a schema is not compatible with itself")
		}
	})
}

func BenchmarkValidate(b *testing.B) {
	s := compile(b, release)
	data := []byte(`{"id":1,"upc":"123456789012","price":9.99,"status":"live","tracks":[{"title":"One"},{"title":"Two"},{"title":"Three"},{"title":"Four"}]}`)
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if len(s.Validate(data)) > 0 {
			b.Fatal("not valid")
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		compile(b, release)
	}
}
