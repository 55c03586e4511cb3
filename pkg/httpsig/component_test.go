package httpsig_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/httpsig"
)

func TestComponentsHaveTheValuesOfTheRFC(t *testing.T) {
	t.Parallel()
	const query = "https://www.example.com/parameters?var=this%20is%20a%20big%0Amultiline%20value&bar=with+plus+whitespace&fa%C3%A7ade%22%3A%20=something&empty="
	tests := map[string]struct {
		url, component, want string
	}{
		"the method":                       {"", "@method", "POST"},
		"the target as it was sent":        {"https://WWW.example.com:443/Path?p=%7e", "@target-uri", "https://WWW.example.com:443/Path?p=%7e"},
		"the authority in lower case":      {"https://WWW.Example.com/path", "@authority", "www.example.com"},
		"the authority without its port":   {"https://www.example.com:443/path", "@authority", "www.example.com"},
		"the port of http":                 {"http://www.example.com:80/path", "@authority", "www.example.com"},
		"another port":                     {"https://www.example.com:8443/path", "@authority", "www.example.com:8443"},
		"the port of the other scheme":     {"http://www.example.com:443/path", "@authority", "www.example.com:443"},
		"the scheme in lower case":         {"HTTP://www.example.com/path", "@scheme", "http"},
		"the path":                         {"https://www.example.com/path?param=value", "@path", "/path"},
		"an empty path":                    {"https://www.example.com?a=b", "@path", "/"},
		"the query":                        {"https://www.example.com/path?param=value&foo=bar&baz=bat%2Dman", "@query", "?param=value&foo=bar&baz=bat%2Dman"},
		"the query without keys":           {"https://www.example.com/path?queryString", "@query", "?queryString"},
		"an absent query":                  {"https://www.example.com/path", "@query", "?"},
		"the request target":               {"https://www.example.com/path?param=value", "@request-target", "/path?param=value"},
		"the request target without query": {"https://www.example.com", "@request-target", "/"},
		"a parameter of many lines":        {query, `@query-param;name="var"`, "this%20is%20a%20big%0Amultiline%20value"},
		"a parameter with plus signs":      {query, `@query-param;name="bar"`, "with%20plus%20whitespace"},
		"a parameter with an encoded name": {query, `"@query-param";name="fa%C3%A7ade%22%3A%20"`, "something"},
		"an empty parameter":               {query, `@query-param;name="empty"`, ""},
		"a field of several lines":         {"", "x-many", "one, two, three"},
		"a field with white space":         {"", "x-space", "a   b"},
		"an empty field":                   {"", "x-empty", ""},
		"a folded field":                   {"", "x-obs-fold", "Obsolete line folding."},
		"a dictionary as it stands":        {"", "content-digest", `sha-256=:AAAA:,   x=1;a;b="c" , y`},
		"a dictionary strictly":            {"", "content-digest;sf", `sha-256=:AAAA:, x=1;a;b="c", y`},
		"a member of a dictionary":         {"", `content-digest;key="x"`, `1;a;b="c"`},
		"a member that is true":            {"", `"content-digest";key="y"`, "?1"},
		"a member of an unknown field":     {"", `x-dict;key="d"`, "(5 6);valid"},
		"a list strictly":                  {"", "cache-status;sf", "a;hit, b"},
		"an item strictly":                 {"", "idempotency-key;sf", `"x";a=1`},
		"bytes of a field":                 {"", "x-many;bs", ":b25l:, :dHdvLCB0aHJlZQ==:"},
		"bytes that are not ASCII":         {"", "x-bytes;bs", ":w7w=:"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := rfcRequest()
			if test.url != "" {
				m.URL = test.url
			}
			m.Header["X-Many"] = []string{"  one ", "two, three\t"}
			m.Header["X-Space"] = []string{"a   b"}
			m.Header["X-Empty"] = []string{""}
			m.Header["X-Obs-Fold"] = []string{"Obsolete\r\n    line folding."}
			m.Header["X-Bytes"] = []string{"ü"}
			m.Header["X-Dict"] = []string{"a=1", "d=(5   6);valid"}
			m.Header["Content-Digest"] = []string{`sha-256=:AAAA:,   x=1;a;b="c" , y`}
			m.Header["Cache-Status"] = []string{"a;hit ,  b"}
			m.Header["Idempotency-Key"] = []string{`"x"; a=1`}
			got, err := httpsig.Value(m, test.component)
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

func TestComponentsWithoutAValueAreRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change    func(*httpsig.Message)
		component string
		want      error
	}{
		"a field that is not there":            {nil, "x-none", httpsig.ErrMessage},
		"a parameter that is not there":        {nil, `@query-param;name="none"`, httpsig.ErrMessage},
		"a parameter that is there twice":      {func(m *httpsig.Message) { m.URL += "&Pet=cat" }, `@query-param;name="Pet"`, httpsig.ErrMessage},
		"a parameter without its name":         {nil, "@query-param", httpsig.ErrMalformed},
		"a name where none belongs":            {nil, `@path;name="x"`, httpsig.ErrMalformed},
		"the status of a request":              {nil, "@status", httpsig.ErrMessage},
		"the method of a response":             {func(m *httpsig.Message) { m.Status = 200 }, "@method", httpsig.ErrMessage},
		"the request of a request":             {nil, "@method;req", httpsig.ErrMessage},
		"the request's status":                 {nil, "@status;req", httpsig.ErrMalformed},
		"an unknown derived component":         {nil, "@speciality", httpsig.ErrUnsupported},
		"trailers":                             {nil, "date;tr", httpsig.ErrUnsupported},
		"upper case":                           {nil, "Date", httpsig.ErrMalformed},
		"nothing":                              {nil, "", httpsig.ErrMalformed},
		"a name with spaces":                   {nil, "a b", httpsig.ErrMalformed},
		"the strict form of an unknown field":  {nil, "date;sf", httpsig.ErrUnsupported},
		"the strict form of a garbled field":   {func(m *httpsig.Message) { m.Header.Set("Content-Digest", "=") }, "content-digest;sf", httpsig.ErrMessage},
		"a member that is not there":           {nil, `content-digest;key="x"`, httpsig.ErrMessage},
		"a member of what is no dictionary":    {nil, `date;key="x"`, httpsig.ErrMessage},
		"bytes and the strict form":            {nil, "content-digest;sf;bs", httpsig.ErrMalformed},
		"bytes of a derived component":         {nil, "@path;bs", httpsig.ErrMalformed},
		"a flag with a value":                  {nil, "date;bs=1", httpsig.ErrMalformed},
		"a key that is no string":              {nil, "content-digest;key=1", httpsig.ErrMalformed},
		"a field that is not ASCII":            {func(m *httpsig.Message) { m.Header.Set("Date", "ü") }, "date", httpsig.ErrMessage},
		"a field with a line break":            {func(m *httpsig.Message) { m.Header.Set("Date", "a\nb") }, "date", httpsig.ErrMessage},
		"a target without scheme":              {func(m *httpsig.Message) { m.URL = "/path" }, "@path", httpsig.ErrMessage},
		"a target without host":                {func(m *httpsig.Message) { m.URL = "https:///path" }, "@path", httpsig.ErrMessage},
		"a target with user information":       {func(m *httpsig.Message) { m.URL = "https://u@h/" }, "@authority", httpsig.ErrMessage},
		"a target with a space":                {func(m *httpsig.Message) { m.URL = "https://h/a b" }, "@target-uri", httpsig.ErrMessage},
		"a target with a line break":           {func(m *httpsig.Message) { m.URL = "https://h/a\n" }, "@target-uri", httpsig.ErrMessage},
		"a method that is none":                {func(m *httpsig.Message) { m.Method = "P T" }, "@method", httpsig.ErrMessage},
		"the request target of CONNECT":        {func(m *httpsig.Message) { m.Method = http.MethodConnect }, "@request-target", httpsig.ErrUnsupported},
		"the parameters of the signature":      {nil, "@signature-params", httpsig.ErrUnsupported},
		"an identifier with something after":   {nil, `"date" x`, httpsig.ErrMalformed},
		"an identifier that is no string":      {nil, `date;bs, x`, httpsig.ErrMalformed},
		"a parameter that is not UTF-8 either": {func(m *httpsig.Message) { m.URL = "https://h/?%zz" }, `@query-param;name="%zz"`, httpsig.ErrMessage},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := rfcRequest()
			if test.change != nil {
				test.change(m)
			}
			_, err := httpsig.Value(m, test.component)
			require.ErrorIs(t, err, test.want)
		})
	}
}

// RFC 9421, section 2.4.
func TestAResponseMayCoverItsRequest(t *testing.T) {
	t.Parallel()
	m := rfcResponse()
	m.Request = rfcRequest()
	for component, want := range map[string]string{
		"@status": "200", "@method;req": "POST", "@path;req": "/foo", "content-digest;req": rfcDigest, "content-length": "23",
	} {
		got, err := httpsig.Value(m, component)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	p := newPair(t, httpsig.Ed25519)
	require.NoError(t, httpsig.Sign(m, params("@status", "@method;req", "content-digest", "content-digest;req"), p.signer))
	require.Contains(t, m.Header.Get("Signature-Input"), `("@status" "@method";req "content-digest" "content-digest";req)`)
	v := knows(signedAt, p)
	v.Components = []string{"@status", `"@method";req`, `"content-digest";req`}
	v.BodyComponents = nil
	_, err := v.Verify(m, []byte(rfcResponseBody))
	require.NoError(t, err)
	m.Request.Method = http.MethodPut
	_, err = v.Verify(m, []byte(rfcResponseBody))
	require.ErrorIs(t, err, httpsig.ErrSignature)
}

func TestWhatCannotBeSignedIsRefused(t *testing.T) {
	t.Parallel()
	p := newPair(t, httpsig.Ed25519)
	require.ErrorIs(t, httpsig.Sign(rfcRequest(), params("@method")), httpsig.ErrKey)
	require.ErrorIs(t, httpsig.Sign(rfcRequest(), params("date", "date"), p.signer), httpsig.ErrMalformed)
	require.ErrorIs(t, httpsig.Sign(rfcRequest(), params(`date;bs`, `"date";bs`), p.signer), httpsig.ErrMalformed)
	require.ErrorIs(t, httpsig.Sign(rfcRequest(), &httpsig.Params{Nonce: "ü"}, p.signer), httpsig.ErrMalformed)
	require.ErrorIs(t, httpsig.Sign(rfcRequest(), &httpsig.Params{Created: at(-1)()}, p.signer), httpsig.ErrMalformed)
	for name, test := range map[string]struct {
		alg httpsig.Algorithm
		id  string
		key any
	}{
		"a key of another algorithm": {httpsig.ECDSAP256, "k", p.key},
		"a key on another curve":     {httpsig.ECDSAP256, "k", newPair(t, httpsig.ECDSAP384).key},
		"a short secret":             {httpsig.HMAC, "k", []byte("short")},
		"a secret for a key":         {httpsig.Ed25519, "k", []byte(strings.Repeat("x", 32))},
		"a public key":               {httpsig.Ed25519, "k", p.key.Public()},
		"no key":                     {httpsig.Ed25519, "k", nil},
		"no keyid":                   {httpsig.Ed25519, "", p.key},
		"a keyid with a line break":  {httpsig.Ed25519, "a\nb", p.key},
		"an unknown algorithm":       {"rsa-v1_5-sha256", "k", rsaPSSPrivate(t)},
	} {
		_, err := httpsig.NewSigner(test.alg, test.id, test.key)
		require.Error(t, err, name)
	}
}

func TestStringsAreEscapedInTheBaseAsInTheHeader(t *testing.T) {
	t.Parallel()
	key := ed25519Private(t)
	s, err := httpsig.NewSigner(httpsig.Ed25519, `a"b\c`, key)
	require.NoError(t, err)
	m := rfcRequest()
	require.NoError(t, httpsig.Sign(m, params("@method"), s))
	require.Contains(t, m.Header.Get("Signature-Input"), `keyid="a\"b\\c"`)
	base, err := httpsig.Base(m, "sig1")
	require.NoError(t, err)
	require.Contains(t, base, strings.TrimPrefix(m.Header.Get("Signature-Input"), "sig1="))
}
