package publicurl_test

import (
	"bufio"
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/services/api/internal/publicurl"
)

func TestTheTargetIsWhatTheClientSaw(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		base publicurl.Base
		line string
		tls  bool
		want string
	}{
		"without a base":         {"", "/a?b=c", false, "http://Hooks.example.com:8080/a?b=c"},
		"over TLS":               {"", "/a", true, "https://Hooks.example.com:8080/a"},
		"behind a proxy":         {"https://public.example", "/a?b", false, "https://public.example/a?b"},
		"below a path":           {"https://public.example/hooks", "/a", false, "https://public.example/hooks/a"},
		"with encoded text":      {"https://public.example", "/a%2Fb%7e?c=%20+", false, "https://public.example/a%2Fb%7e?c=%20+"},
		"with an empty query":    {"https://public.example", "/a?", false, "https://public.example/a?"},
		"with two slashes":       {"https://public.example", "//a/../b", false, "https://public.example//a/../b"},
		"with an absolute form":  {"https://public.example", "http://x.example/a?b", false, "https://public.example/a?b"},
		"of another host's form": {"", "http://x.example/a?b", false, "http://x.example/a?b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + test.line + " HTTP/1.1\r\nHost: Hooks.example.com:8080\r\n\r\n")))
			require.NoError(t, err)
			if test.tls {
				r.TLS = &tls.ConnectionState{}
			}
			require.Equal(t, test.want, test.base.Target(r))
		})
	}
}

func TestABaseIsAnAbsoluteURL(t *testing.T) {
	t.Parallel()
	for base, want := range map[publicurl.Base]bool{
		"": true, "https://a.example": true, "http://a.example:80/b": true,
		"https://a.example/": false, "a.example": false, "ftp://a.example": false, "https://u@a.example": false,
		"https://a.example?x": false, "https://": false, "https://a b": false,
	} {
		require.Equal(t, want, base.Valid(), "%q", base)
	}
}
