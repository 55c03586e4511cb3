package match_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/postrider/postrider/pkg/match"
)

func scopes(t testing.TB, json string) *structpb.Struct {
	t.Helper()
	var s structpb.Struct
	require.NoError(t, s.UnmarshalJSON([]byte(json)))
	return &s
}

func TestScopesMatch(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"project_id": "12", "tier": "gold", "live": "true", "ratio": "0.5", "big": "1000000000000"}
	tests := map[string]struct {
		scopes string
		want   bool
	}{
		"no keys keep everything":                      {`{}`, true},
		"a number in a list matches a label's text":    {`{"project_id":[13,12]}`, true},
		"a number that is not in the list does not":    {`{"project_id":[13]}`, false},
		"a number alone is a list of one":              {`{"project_id":12}`, true},
		"a text matches":                               {`{"tier":["gold","silver"]}`, true},
		"a text is case-sensitive":                     {`{"tier":"Gold"}`, false},
		"a text of digits matches as a number does":    {`{"project_id":["12"]}`, true},
		"a boolean matches":                            {`{"live":true}`, true},
		"a fraction matches":                           {`{"ratio":[0.5]}`, true},
		"a large number is not written in powers":      {`{"big":1e12}`, true},
		"every key must match":                         {`{"project_id":[12],"tier":["silver"]}`, false},
		"all keys together match":                      {`{"project_id":[12],"tier":["gold"]}`, true},
		"a label that is not there does not match":     {`{"country":["AU"]}`, false},
		"an empty text matches only an empty label":    {`{"tier":""}`, false},
		"a list may mix texts, numbers and booleans":   {`{"live":["x",1,true]}`, true},
		"a number does not match another way to spell": {`{"project_id":["12.0"]}`, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := match.ParseScopes(scopes(t, tt.scopes))
			require.NoError(t, err)
			require.Equal(t, tt.want, s.Match(labels))
			require.Equal(t, tt.scopes == `{}`, s.Match(nil))
			require.Equal(t, tt.scopes == `{}`, s.Empty())
		})
	}
	s, err := match.ParseScopes(nil)
	require.NoError(t, err)
	require.True(t, s.Match(nil))
	require.True(t, match.Scopes{}.Match(labels))
}

func TestParseScopesRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"null":                `{"a":null}`,
		"an object":           `{"a":{"b":1}}`,
		"an object in a list": `{"a":[{"b":1}]}`,
		"a list in a list":    `{"a":[[1]]}`,
		"null in a list":      `{"a":[null]}`,
		"an empty list":       `{"a":[]}`,
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := match.ParseScopes(scopes(t, text))
			require.ErrorContains(t, err, `scope "a"`)
		})
	}
	_, err := match.ParseScopes(&structpb.Struct{Fields: map[string]*structpb.Value{"a": nil}})
	require.Error(t, err)
}

func TestMatchingScopesAllocatesNothing(t *testing.T) {
	s, err := match.ParseScopes(scopes(t, `{"project_id":[12,13],"tier":["gold"]}`))
	require.NoError(t, err)
	labels := map[string]string{"project_id": "12", "tier": "gold"}
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Match(labels) }))
}
