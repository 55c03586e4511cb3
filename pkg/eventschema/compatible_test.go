package eventschema_test

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/eventschema"
)

func TestCompatible(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		old, next string
		want      []string // pointers of narrowings
	}{
		"the same schema":                                 {release, release, nil},
		"other annotations":                               {`{"type":"string","title":"a"}`, `{"type":"string","description":"b","format":"email","default":1}`, nil},
		"a type that is taken too":                        {`{"type":"string"}`, `{"type":["string","null"]}`, nil},
		"a type that is gone":                             {`{"type":["string","null"]}`, `{"type":"string"}`, []string{"/type"}},
		"a type where there was none":                     {`{}`, `{"type":"object"}`, []string{"/type"}},
		"integers become numbers":                         {`{"type":"integer"}`, `{"type":"number"}`, nil},
		"numbers become integers":                         {`{"type":"number"}`, `{"type":"integer"}`, []string{"/type"}},
		"a new optional member":                           {`{"properties":{"a":{"type":"string"}},"additionalProperties":false}`, `{"properties":{"a":{"type":"string"},"b":{"type":"string"}},"additionalProperties":false}`, nil},
		"a new optional member where all were taken":      {`{"properties":{"a":{"type":"string"}}}`, `{"properties":{"a":{"type":"string"},"b":{"type":"string"}}}`, []string{"/properties/b/type"}},
		"a member that is required now":                   {`{"properties":{"a":true}}`, `{"properties":{"a":true},"required":["a"]}`, []string{"/required"}},
		"a member that is no longer required":             {`{"required":["a","b"]}`, `{"required":["a"]}`, nil},
		"a member that is gone from a closed object":      {`{"properties":{"a":true,"b":true},"additionalProperties":false}`, `{"properties":{"a":true},"additionalProperties":false}`, []string{"/additionalProperties"}},
		"an object that is closed":                        {`{"properties":{"a":true}}`, `{"properties":{"a":true},"additionalProperties":false}`, []string{"/additionalProperties"}},
		"an object that is opened":                        {`{"properties":{"a":true},"additionalProperties":false}`, `{"properties":{"a":true}}`, nil},
		"additional members get a schema":                 {`{"properties":{"a":true}}`, `{"properties":{"a":true},"additionalProperties":{"type":"string"}}`, []string{"/additionalProperties/type"}},
		"a pattern of names takes over":                   {`{"additionalProperties":{"type":"string"}}`, `{"patternProperties":{"^x":{"type":"string"}},"additionalProperties":{"type":"string"}}`, []string{"/patternProperties/^x/type"}},
		"a pattern of names that was there":               {`{"patternProperties":{"^x":{"type":"string"}}}`, `{"patternProperties":{"^x":{"type":["string","null"]}}}`, nil},
		"a pattern of names is gone from a closed object": {`{"patternProperties":{"^x":true},"additionalProperties":false}`, `{"additionalProperties":false}`, []string{"/additionalProperties"}},
		"an enum that grew":                               {`{"enum":["a"]}`, `{"enum":["a","b"]}`, nil},
		"an enum that shrank":                             {`{"enum":["a","b"]}`, `{"enum":["a"]}`, []string{"/enum"}},
		"an enum that becomes a type":                     {`{"enum":["a","b"]}`, `{"type":"string","maxLength":1}`, nil},
		"an enum that becomes a type with a bound":        {`{"enum":["a","bb"]}`, `{"type":"string","maxLength":1}`, []string{""}},
		"a type that becomes an enum":                     {`{"type":"string"}`, `{"type":"string","enum":["a"]}`, []string{"/enum"}},
		"a constant that becomes an enum":                 {`{"const":1.0}`, `{"enum":[1,2]}`, nil},
		"bounds that are wider":                           {`{"minimum":0,"maximum":10}`, `{"minimum":-1,"maximum":10.5}`, nil},
		"bounds that are narrower":                        {`{"minimum":0,"maximum":10}`, `{"minimum":0.5,"exclusiveMaximum":10}`, []string{"/exclusiveMaximum", "/minimum"}},
		"an exclusive bound that becomes inclusive":       {`{"exclusiveMinimum":0}`, `{"minimum":0}`, nil},
		"a bound that does not meet the type":             {`{"type":"string"}`, `{"type":"string","minimum":5}`, nil},
		"a multiple of a multiple":                        {`{"multipleOf":0.1}`, `{"multipleOf":0.05}`, nil},
		"another multiple":                                {`{"multipleOf":2}`, `{"multipleOf":4}`, []string{"/multipleOf"}},
		"lengths that are narrower":                       {`{"minLength":1,"maxLength":9}`, `{"minLength":2,"maxLength":8}`, []string{"/maxLength", "/minLength"}},
		"another pattern":                                 {`{"pattern":"^a"}`, `{"pattern":"^[a]"}`, []string{"/pattern"}},
		"a pattern that is gone":                          {`{"pattern":"^a"}`, `{}`, nil},
		"items that are narrower":                         {`{"items":{"type":["string","null"]}}`, `{"items":{"type":"string"}}`, []string{"/items/type"}},
		"items that are counted and unique":               {`{"type":"array"}`, `{"type":"array","minItems":1,"maxItems":2,"uniqueItems":true}`, []string{"/maxItems", "/minItems", "/uniqueItems"}},
		"places that get a schema":                        {`{"prefixItems":[{"type":"string"}],"items":{"type":"number"}}`, `{"prefixItems":[{"type":"string"},{"type":"integer"}],"items":{"type":"number"}}`, []string{"/prefixItems/1/type"}},
		"places that lose theirs":                         {`{"prefixItems":[{"type":"string"},{"type":"integer"}],"items":{"type":"number"}}`, `{"items":{"type":["string","number"]}}`, nil},
		"references are what they refer to":               {`{"type":"string","maxLength":3}`, `{"$ref":"#/$defs/a","$defs":{"a":{"type":"string"}}}`, nil},
		"what a reference refers to is narrower":          {`{"$ref":"#/$defs/a","$defs":{"a":{"type":["string","null"]}}}`, `{"$ref":"#/$defs/a","$defs":{"a":{"type":"string"}}}`, []string{"/$defs/a/type"}},
		"a schema that holds itself":                      {`{"properties":{"next":{"$ref":"#"},"v":{"type":"integer"}}}`, `{"properties":{"next":{"$ref":"#"},"v":{"type":"number"}}}`, nil},
		"a schema that holds itself and is narrower":      {`{"properties":{"next":{"$ref":"#"},"v":{"type":"number"}}}`, `{"properties":{"next":{"$ref":"#"},"v":{"type":"integer"}}}`, []string{"/properties/v/type"}},
		"allOf that says the same":                        {`{"type":"object","required":["a"]}`, `{"allOf":[{"type":"object"},{"required":["a"]}]}`, nil},
		"an alternative more":                             {`{"anyOf":[{"type":"string"},{"type":"null"}]}`, `{"anyOf":[{"type":"string"},{"type":"null"},{"type":"number"}]}`, nil},
		"an alternative less":                             {`{"anyOf":[{"type":"string"},{"type":"null"}]}`, `{"anyOf":[{"type":"string"}]}`, []string{"/anyOf"}},
		"alternatives where there were none":              {`{"type":"string"}`, `{"anyOf":[{"type":"string"},{"type":"null"}]}`, nil},
		"oneOf that becomes anyOf":                        {`{"oneOf":[{"type":"string"},{"type":"null"}]}`, `{"anyOf":[{"type":["string","null"]}]}`, nil},
		"oneOf that stays":                                {`{"oneOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"type":"string"}}}`, `{"title":"x","oneOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"type":"string"},"b":true}}`, nil},
		"oneOf whose reference changed":                   {`{"oneOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"type":"string"}}}`, `{"oneOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"type":"number"}}}`, []string{"/oneOf"}},
		"what must not be":                                {`{}`, `{"not":{"type":"null"}}`, []string{"/not"}},
		"a condition that changed":                        {`{"if":{"type":"string"},"then":{"minLength":1}}`, `{"if":{"type":"string"},"then":{"minLength":2}}`, []string{"/if"}},
		"a condition that is gone":                        {`{"if":{"type":"string"},"then":{"minLength":1}}`, `{}`, nil},
		"names of members":                                {`{"propertyNames":{"maxLength":9}}`, `{"propertyNames":{"type":"string","maxLength":8}}`, []string{"/propertyNames/maxLength"}},
		"a member that needs another":                     {`{"dependentRequired":{"a":["b"]}}`, `{"dependentRequired":{"a":["b","c"]}}`, []string{"/dependentRequired/a"}},
		"nothing at all":                                  {`{"type":"string"}`, `false`, []string{""}},
		"something where there was nothing":               {`false`, `{"type":"string","minLength":99}`, nil},
		"what others left over":                           {`{"properties":{"a":true}}`, `{"properties":{"a":true},"unevaluatedProperties":false}`, []string{"/unevaluatedProperties"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, n := range eventschema.Compatible(compile(t, tc.old), compile(t, tc.next)) {
				require.NotEmpty(t, n.Change)
				got = append(got, n.Pointer)
			}
			require.Equal(t, tc.want, got)
		})
	}
}

// schemaOf draws a schema over a small world, so that two of them often have to do with each other.
func schemaOf(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		if depth == 0 || rapid.IntRange(0, 9).Draw(t, "plain") == 0 {
			return rapid.SampledFrom([]any{true, true, false, map[string]any{"type": "string"}, map[string]any{"type": "integer"}}).Draw(t, "leaf")
		}
		inner := schemaOf(depth - 1)
		names := rapid.SampledFrom([]string{"a", "b", "ax"})
		small := rapid.IntRange(0, 3)
		s := map[string]any{}
		for range rapid.IntRange(0, 4).Draw(t, "keywords") {
			switch rapid.IntRange(0, 21).Draw(t, "keyword") {
			case 0, 1:
				s["type"] = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"null", "boolean", "number", "integer", "string", "array", "object"}), 1, 4, rapid.ID[string]).Draw(t, "types")
			case 2:
				s["enum"] = rapid.SliceOfN(value(2), 1, 3).Draw(t, "enum")
			case 3, 4, 5:
				s["properties"] = rapid.MapOfN(names, inner, 1, 2).Draw(t, "properties")
			case 6:
				s["patternProperties"] = map[string]any{"^a": inner.Draw(t, "pattern")}
			case 7:
				s["additionalProperties"] = inner.Draw(t, "additional")
			case 8:
				s["required"] = rapid.SliceOfNDistinct(names, 1, 2, rapid.ID[string]).Draw(t, "required")
			case 9:
				s["items"] = inner.Draw(t, "items")
			case 10:
				s["prefixItems"] = rapid.SliceOfN(inner, 1, 2).Draw(t, "prefix")
			case 11:
				s["minItems"], s["maxItems"] = small.Draw(t, "least"), small.Draw(t, "most")
			case 12:
				s["minimum"] = small.Draw(t, "minimum")
			case 13:
				s["exclusiveMaximum"] = small.Draw(t, "maximum")
			case 14:
				s["anyOf"] = rapid.SliceOfN(inner, 1, 3).Draw(t, "any")
			case 15:
				s["oneOf"] = rapid.SliceOfN(inner, 1, 2).Draw(t, "one")
			case 16:
				s["allOf"] = rapid.SliceOfN(inner, 1, 2).Draw(t, "all")
			case 17:
				s["not"] = inner.Draw(t, "not")
			case 18:
				s["$ref"] = "#"
			case 19:
				s["minProperties"], s["maxLength"], s["multipleOf"] = small.Draw(t, "members"), small.Draw(t, "length"), small.Draw(t, "multiple")+1
			case 20:
				s["dependentRequired"] = map[string]any{"a": []string{"b"}}
				s["dependentSchemas"] = map[string]any{"b": inner.Draw(t, "dependent")}
			case 21:
				s["unevaluatedProperties"] = inner.Draw(t, "left")
			}
		}
		return s
	})
}

func value(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		leaf := rapid.SampledFrom([]any{nil, true, 0, 1, 2.5, 3, "", "a", "abc"})
		if depth == 0 {
			return leaf.Draw(t, "leaf")
		}
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			return leaf.Draw(t, "leaf")
		case 1:
			return rapid.SliceOfN(value(depth-1), 0, 3).Draw(t, "list")
		}
		return rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "ax", "c"}), value(depth-1), 0, 3).Draw(t, "object")
	})
}

// TestCompatibleMeansThatOldDataAreTaken draws two schemas, of which the second is often the first
// with one keyword changed, and data: what the first takes, the second takes, if it is compatible.
func TestCompatibleMeansThatOldDataAreTaken(t *testing.T) {
	t.Parallel()
	compatible, taken := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		first := schemaOf(3).Draw(t, "old")
		second := schemaOf(3).Draw(t, "next")
		if m, ok := first.(map[string]any); ok && rapid.Bool().Draw(t, "derived") {
			changed := map[string]any{}
			maps.Copy(changed, m)
			if n, ok := second.(map[string]any); ok {
				for _, k := range slices.Sorted(maps.Keys(n))[:min(1, len(n))] {
					changed[k] = n[k]
				}
			}
			if len(changed) > 0 && rapid.Bool().Draw(t, "less") {
				delete(changed, slices.Min(slices.Collect(maps.Keys(changed))))
			}
			second = changed
		}
		old, err1 := eventschema.Compile(text(t, first))
		next, err2 := eventschema.Compile(text(t, second))
		if err1 != nil || err2 != nil || len(eventschema.Compatible(old, next)) > 0 {
			return
		}
		compatible++
		for range 8 {
			data := text(t, value(3).Draw(t, "data"))
			if len(old.Validate(data)) > 0 {
				continue
			}
			taken++
			if broken := next.Validate(data); len(broken) > 0 {
				t.Fatalf("%s is refused: %v", data, broken)
			}
		}
	})
	t.Logf("%d pairs were compatible, %d values were taken by both", compatible, taken)
}

func text(t *rapid.T, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
