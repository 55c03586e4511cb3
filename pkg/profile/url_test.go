package profile_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/profile"
)

func TestNormalizeURL(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ raw, want string }{
		"a plain URL stays":                           {"https://example.com/hook", "https://example.com/hook"},
		"scheme and host become lower case":           {"HTTPS://Example.COM/Hook", "https://example.com/Hook"},
		"an empty path becomes a slash":               {"https://example.com", "https://example.com/"},
		"so it does before a query":                   {"https://example.com?a=1", "https://example.com/?a=1"},
		"an empty query stays":                        {"https://example.com/?", "https://example.com/?"},
		"the default port of https goes":              {"https://example.com:443/h", "https://example.com/h"},
		"the default port of http goes":               {"http://example.com:80/h", "http://example.com/h"},
		"another port stays":                          {"https://example.com:8443/h", "https://example.com:8443/h"},
		"the other scheme's default port stays":       {"https://example.com:80/h", "https://example.com:80/h"},
		"zeros before the port go":                    {"https://example.com:0443/h", "https://example.com/h"},
		"an empty port goes":                          {"https://example.com:/h", "https://example.com/h"},
		"the fragment goes":                           {"https://example.com/h#part", "https://example.com/h"},
		"a malformed fragment goes too":               {"https://example.com/h#%zz", "https://example.com/h"},
		"a name beyond ASCII becomes punycode":        {"https://münchen.example/h", "https://xn--mnchen-3ya.example/h"},
		"percent-encoded UTF-8 in the host does too":  {"https://m%C3%BCnchen.example/h", "https://xn--mnchen-3ya.example/h"},
		"sharp s stays itself":                        {"https://straße.example/", "https://xn--strae-oqa.example/"},
		"wide digits become digits":                   {"https://１２７.0.0.1/", "https://127.0.0.1/"},
		"an underscore may stand in a name":           {"http://my_service:8080/h", "http://my_service:8080/h"},
		"the final dot of a name stays":               {"https://example.com./h", "https://example.com./h"},
		"an IPv6 address takes its shortest form":     {"https://[2001:DB8:0:0:0:0:0:1]:443/h", "https://[2001:db8::1]/h"},
		"escapes of the path stay as they are":        {"https://example.com/a%2Fb%20c/%7e", "https://example.com/a%2Fb%20c/%7e"},
		"a space in the path is escaped, no more":     {"https://example.com/a%2Fb c", "https://example.com/a%2Fb%20c"},
		"the query stays as it is":                    {"https://example.com/h?b=2&a=1&a[]=%20x+y;z", "https://example.com/h?b=2&a=1&a[]=%20x+y;z"},
		"what a request line cannot hold is escaped":  {"https://example.com/h?q=a b\"é<>", "https://example.com/h?q=a%20b%22%C3%A9%3C%3E"},
		"a lone percent sign of the query stays":      {"https://example.com/h?q=100%", "https://example.com/h?q=100%"},
		"dot segments stay":                           {"https://example.com/a/../b", "https://example.com/a/../b"},
		"the odd forms of loopback stay names":        {"http://127.1/", "http://127.1/"},
		"a number as a host stays a name":             {"http://2130706433/", "http://2130706433/"},
		"an at sign in the path is no user":           {"https://example.com/@you", "https://example.com/@you"},
		"a double slash in the path is no authority":  {"https://example.com//evil.example/", "https://example.com//evil.example/"},
		"the longest URL is accepted":                 {longURL(profile.MaxURLBytes), longURL(profile.MaxURLBytes)},
		"a backslash does not end the host":           {`https://example.com/\evil.example/`, "https://example.com/%5Cevil.example/"},
		"a punycode name stays":                       {"https://xn--mnchen-3ya.example/", "https://xn--mnchen-3ya.example/"},
		"a name with hyphens in the third place stay": {"https://r3---sn-abc.example/", "https://r3---sn-abc.example/"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := profile.NormalizeURL(tt.raw, true)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
			again, err := profile.NormalizeURL(got, true)
			require.NoError(t, err)
			require.Equal(t, got, again)
		})
	}
}

func longURL(n int) string {
	const base = "https://example.com/"
	return base + strings.Repeat("a", n-len(base))
}

func TestNormalizeURLRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		raw       string
		allowHTTP bool
		says      string
	}{
		"nothing":                           {"", true, "absolute"},
		"a path":                            {"/hook", true, "absolute"},
		"a URL without a scheme":            {"//example.com/hook", true, "absolute"},
		"a host and port alone":             {"example.com:8080/hook", true, "http"},
		"http where it is not allowed":      {"http://example.com/", false, "must begin with https://"},
		"another scheme":                    {"ftp://example.com/", true, "must begin with https:// or http://"},
		"a script":                          {"javascript:alert(1)", true, "must begin"},
		"an opaque URL":                     {"https:example.com", true, "host"},
		"no host":                           {"https:///hook", true, "host"},
		"a port alone":                      {"https://:443/hook", true, "host"},
		"a user":                            {"https://user@example.com/", true, "user"},
		"a user and a password":             {"https://user:pw@example.com/", true, "user"},
		"an empty user":                     {"https://@example.com/", true, "user"},
		"a line end":                        {"https://example.com/\r\nX: y", true, "control"},
		"a NUL":                             {"https://example.com/\x00", true, "control"},
		"a C1 control character":            {"https://example.com/\u0085", true, "control"},
		"bytes that are not UTF-8":          {"https://example.com/\xff", true, "control"},
		"a space before":                    {" https://example.com/", true, "outer spaces"},
		"a space after":                     {"https://example.com/ ", true, "outer spaces"},
		"a space in the host":               {"https://exa mple.com/", true, ""},
		"a backslash in the host":           {`https://example.com\@evil.example/`, true, ""},
		"port zero":                         {"https://example.com:0/", true, "port"},
		"a port that is too large":          {"https://example.com:65536/", true, "port"},
		"a port that is no number":          {"https://example.com:http/", true, ""},
		"an empty label":                    {"https://example..com/", true, "host"},
		"a label that is too long":          {"https://" + strings.Repeat("a", 64) + ".example/", true, "host"},
		"a name that is too long":           {"https://" + strings.Repeat("a.", 127) + "ab/", true, "host"},
		"a lone dot":                        {"https://./", true, "host"},
		"punycode that is none":             {"https://xn--zzzzzz-.example/", true, "host"},
		"an IPv6 address with a zone":       {"https://[fe80::1%25eth0]/", true, "host"},
		"an IPv4 address in brackets":       {"https://[127.0.0.1]/", true, ""},
		"a malformed escape in the path":    {"https://example.com/%zz", true, "absolute"},
		"a URL that is too long":            {longURL(profile.MaxURLBytes + 1), true, "2048"},
		"a URL that becomes too long":       {"https://example.com/?" + strings.Repeat("é", 1000), true, "2048"},
		"characters that are no host's":     {"https://exam$ple.com/", true, "host"},
		"a name that maps to something odd": {"https://exa℀mple.com/", true, "host"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := profile.NormalizeURL(tt.raw, tt.allowHTTP)
			require.Error(t, err, got)
			require.ErrorContains(t, err, tt.says)
			require.NotContains(t, err.Error(), "pw")
		})
	}
}

// checkNormalized is what must hold of every URL that NormalizeURL accepts.
func checkNormalized(t require.TestingT, got string, allowHTTP bool) {
	again, err := profile.NormalizeURL(got, allowHTTP)
	require.NoError(t, err, got)
	require.Equal(t, got, again, "normalising twice must change nothing more")
	require.LessOrEqual(t, len(got), profile.MaxURLBytes)

	u, err := url.Parse(got)
	require.NoError(t, err)
	require.True(t, u.Scheme == "https" || allowHTTP && u.Scheme == "http", got)
	require.NotEmpty(t, u.Hostname())
	require.Nil(t, u.User)
	require.Empty(t, u.Fragment)
	require.True(t, strings.HasPrefix(u.EscapedPath(), "/"), got)
	for i := range len(got) {
		require.True(t, got[i] > ' ' && got[i] < 0x7f, "byte %d of %q", i, got)
	}
	r, err := http.NewRequest(http.MethodPost, got, http.NoBody) //nolint:noctx // it is never sent
	require.NoError(t, err)
	require.Equal(t, strings.TrimPrefix(got, u.Scheme+"://"+u.Host), r.URL.RequestURI(), "the request line must be the URL's own text")
}

func TestNormalizeURLIsIdempotent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SampledFrom([]string{"https://", "HTTP://", "http://"}).Draw(t, "scheme") +
			rapid.StringMatching(`[a-zA-Z0-9_éßÄ。-]{1,12}(\.[a-zA-Z0-9üÖ-]{1,8}){0,3}\.?`).Draw(t, "host") +
			rapid.SampledFrom([]string{"", ":", ":80", ":443", ":8443", ":0080"}).Draw(t, "port") +
			rapid.StringMatching(`(/[a-zA-Z0-9 %/.;:@é"<>{}|^\\]{0,20})?`).Draw(t, "path") +
			rapid.StringMatching(`(\?[ -"$-~é]{0,20})?(#.{0,5})?`).Draw(t, "query")
		allowHTTP := rapid.Bool().Draw(t, "allowHTTP")
		got, err := profile.NormalizeURL(raw, allowHTTP)
		if err == nil {
			checkNormalized(t, got, allowHTTP)
		}
	})
}

func FuzzNormalizeURL(f *testing.F) {
	for _, seed := range []string{
		"https://example.com/", "HTTP://Example.COM:80?x#y", "https://münchen.example:0443/a%2Fb c?q=é",
		"https://[2001:DB8::1]:443/", "http://127.1", `https://a\@b/`, "https://a/%zz", "https://１２７。0.0.1/", "https://xn--a/",
	} {
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, raw string, allowHTTP bool) {
		got, err := profile.NormalizeURL(raw, allowHTTP)
		if err == nil {
			checkNormalized(t, got, allowHTTP)
		}
	})
}
