package jsonapi

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDocumentsAreReadOrRefusedByTheirMembers(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body    string
		id      int64
		status  int
		pointer string
	}{
		"no JSON":                          {`{`, 0, 400, ""},
		"nothing":                          {``, 0, 400, ""},
		"an array":                         {`[]`, 0, 422, "/data"},
		"no data":                          {`{}`, 0, 422, "/data"},
		"data of null":                     {`{"data":null}`, 0, 422, "/data"},
		"a list of data":                   {`{"data":[]}`, 0, 422, "/data"},
		"no type":                          {`{"data":{"attributes":{}}}`, 0, 422, "/data/type"},
		"a type that is no text":           {`{"data":{"type":5,"attributes":{}}}`, 0, 422, "/data/type"},
		"another type":                     {`{"data":{"type":"webhooks","attributes":{}}}`, 0, 409, "/data/type"},
		"no attributes":                    {`{"data":{"type":"notification/webhooks"}}`, 0, 422, "/data/attributes"},
		"attributes of null":               {`{"data":{"type":"notification/webhooks","attributes":null}}`, 0, 422, "/data/attributes"},
		"a URL of another kind":            {`{"data":{"type":"notification/webhooks","attributes":{"url":5}}}`, 0, 422, "/data/attributes/url"},
		"events of another kind":           {`{"data":{"type":"notification/webhooks","attributes":{"events":"a"}}}`, 0, 422, "/data/attributes/events"},
		"scopes of another kind":           {`{"data":{"type":"notification/webhooks","attributes":{"scopes":[]}}}`, 0, 422, "/data/attributes/scopes"},
		"scopes with a number too precise": {`{"data":{"type":"notification/webhooks","attributes":{"scopes":{"a":9007199254740993}}}}`, 0, 422, "/data/attributes/scopes"},
		"scopes with a number too large":   {`{"data":{"type":"notification/webhooks","attributes":{"scopes":{"a":1e999}}}}`, 0, 422, "/data/attributes/scopes"},
		"another id than the path's":       {`{"data":{"type":"notification/webhooks","id":"8","attributes":{}}}`, 7, 409, "/data/id"},
		"another id in the attributes":     {`{"data":{"type":"notification/webhooks","attributes":{"id":8}}}`, 7, 409, "/data/attributes/id"},
		"a name of null in a change":       {`{"data":{"type":"notification/webhooks","attributes":{"name":null}}}`, 7, 422, "/data/attributes/name"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, f := parseDocument([]byte(test.body), test.id)
			require.NotEmpty(t, f)
			require.Equal(t, test.status, f.status())
			require.Equal(t, test.pointer, f[0].pointer)
		})
	}
}

func TestWhatIsOutsideTheSchemaIsDropped(t *testing.T) {
	t.Parallel()
	a, f := parseDocument([]byte(`{"data":{"type":"notification/webhooks","id":"x","attributes":{
		"id":99,"created_at":"never","updated_at":5,"more":true,"secret":null,"name":"n","url":"https://example.com","events":["a"]}}}`), 0)
	require.Empty(t, f)
	require.Nil(t, a.secret)
	require.Equal(t, "n", *a.name)

	a, f = parseDocument([]byte(`{"data":{"type":"notification/webhooks","id":"7","attributes":{
		"id":7,"account_id":99,"scopes":{"a":1},"created_at":"never","updated_at":5}}}`), 7)
	require.Empty(t, f)
	require.Nil(t, a.scopes)
	require.Nil(t, a.accountID)
	require.Nil(t, a.change("wh_1"), "nothing is left to change")
}

func TestScopesComeBackAsTheyWereGiven(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{}`, `{"project_id":[12,13]}`, `{"a":"x","b":[true,1.5,"é<&>"],"c":-0.25,"d":9007199254740992}`, `{"deep":{"er":[[]]}}`} {
		s, err := parseScopes([]byte(text))
		require.NoError(t, err, text)
		back, err := json.Marshal(s.AsMap())
		require.NoError(t, err)
		require.JSONEq(t, text, string(back))
	}
}

func FuzzADocumentIsReadOrRefused(f *testing.F) {
	f.Add([]byte(`{"data":{"type":"notification/webhooks","attributes":{"name":"prod","url":"https://example.com/h","secret":"s3cr3t","events":["release.created"],"scopes":{"project_id":[12]}}}}`), int64(0))
	f.Add([]byte(`{"data":{"type":"notification/webhooks","id":"7","attributes":{"id":7,"events":[]}}}`), int64(7))
	f.Add([]byte(`{"data":{"type":"notification/webhooks","attributes":{"scopes":{"a":1e-999999999}}}}`), int64(0))
	f.Fuzz(func(t *testing.T, body []byte, id int64) {
		a, failed := parseDocument(body, id)
		if (a == nil) == (len(failed) == 0) {
			t.Fatal("neither or both")
		}
		if len(failed) > 0 && (failed.status() < 400 || failed.status() >= 500) {
			t.Fatalf("status %d", failed.status())
		}
	})
}
