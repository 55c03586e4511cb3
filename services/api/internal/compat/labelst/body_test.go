package labelst

import (
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/fault"
)

func TestATokenIsReadFromJSONAndFromAForm(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body  string
		form  bool
		token string
	}{
		"JSON":                       {`{"token":"abc"}`, false, "abc"},
		"JSON with more":             {`{"more":{},"token":"abc"}`, false, "abc"},
		"a form":                     {`token=a%62c&more=1`, true, "abc"},
		"no token in JSON":           {`{}`, false, ""},
		"no token in a form":         {`more=1`, true, ""},
		"a number":                   {`{"token":5}`, false, ""},
		"null":                       {`{"token":null}`, false, ""},
		"an object":                  {`{"token":{"a":"abc"}}`, false, ""},
		"a list":                     {`{"token":["abc"]}`, false, ""},
		"nothing in place of a form": {``, true, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token, err := parseToken([]byte(test.body), test.form)
			require.NoError(t, err)
			require.Equal(t, test.token, token)
		})
	}
	for _, body := range []string{``, `[]`, `"abc"`, `{`} {
		_, err := parseToken([]byte(body), false)
		require.Error(t, err, body)
	}
	_, err := parseToken([]byte("token=%zz"), true)
	require.Error(t, err)
}

func TestAWebhookIsMadeFromANameAndAURLAlone(t *testing.T) {
	t.Parallel()
	req, err := parseCreate([]byte(`{"name":"n","url":"https://example.com","more":1}`))
	require.NoError(t, err)
	require.Equal(t, &createRequest{Name: "n", URL: "https://example.com"}, req)
	for body, field := range map[string]string{
		`{"url":"u"}`:                             "name",
		`{"name":"n"}`:                            "url",
		`{"name":"","url":"u"}`:                   "name",
		`{"name":5,"url":"u"}`:                    "name",
		`{"name":"n","url":null}`:                 "url",
		`{"name":"n","url":"u","events":["a"]}`:   "events",
		`{"name":"n","url":"u","events":[]}`:      "events",
		`{"name":"n","url":"u","event_types":[]}`: "event_types",
	} {
		_, err := parseCreate([]byte(body))
		e, ok := fault.As(err)
		require.True(t, ok, body)
		require.Len(t, e.Violations, 1, body)
		require.Equal(t, field, e.Violations[0].Field, body)
	}
	for _, body := range []string{``, `null`, `[]`, `5`} {
		_, err := parseCreate([]byte(body))
		require.Error(t, err, body)
	}
}

func TestAddressesOfOneIPv6NetworkCountTogether(t *testing.T) {
	t.Parallel()
	for remote, want := range map[string]string{
		"192.0.2.1:4000":               "192.0.2.1",
		"[::ffff:192.0.2.1]:4000":      "192.0.2.1",
		"[2001:db8::1]:4000":           "2001:db8::/64",
		"[2001:db8::ffff:1]:4000":      "2001:db8::/64",
		"[2001:db8:0:1::1]:4000":       "2001:db8:0:1::/64",
		"[fe80::1%eth0]:4000":          "fe80::/64",
		"something that is no address": "something that is no address",
	} {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/", nil)
		r.RemoteAddr = remote
		require.Equal(t, want, address(r), remote)
	}
}

func FuzzATokenIsReadOrRefused(f *testing.F) {
	f.Add([]byte(`{"token":"abc"}`), false)
	f.Add([]byte(`token=abc`), true)
	f.Fuzz(func(t *testing.T, body []byte, form bool) {
		if token, err := parseToken(body, form); err != nil && token != "" {
			t.Fatal("both")
		}
		if req, err := parseCreate(body); (req == nil) == (err == nil) {
			t.Fatal("neither or both")
		}
	})
}
