package egress_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/services/dispatcher/internal/egress"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

// The transport repeats by itself what HTTP calls idempotent, on a connection that was used before
// and that ends without an answer. An attempt is one request, whatever its method or headers.
func TestARequestThatWasWrittenIsNeverRepeated(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]egress.Request{
		"GET":              {Method: http.MethodGet, Header: http.Header{}},
		"OPTIONS":          {Method: http.MethodOptions, Header: http.Header{}},
		"POST":             {Method: http.MethodPost, Header: http.Header{}, Body: []byte("{}")},
		"an empty POST":    {Method: http.MethodPost, Header: http.Header{}, Body: []byte{}},
		"a POST with keys": {Method: http.MethodPost, Header: http.Header{"Idempotency-Key": {"1"}, "X-Idempotency-Key": {"1"}}, Body: []byte("{}")},
		"no body with one": {Method: http.MethodPost, Header: http.Header{"Idempotency-Key": {"1"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			receiver := receivertest.New(t).Answer(receivertest.Status(204), receivertest.Reset(), receivertest.Status(204))
			u, err := url.Parse(receiver.URL)
			require.NoError(t, err)
			r.URL, r.Timeout = u, 5*time.Second
			client := newClient(t, egress.Options{})
			require.Equal(t, 204, client.Do(t.Context(), &r).Status)
			result := client.Do(t.Context(), &r)
			require.Zero(t, result.Status, "the second request had no answer")
			require.Equal(t, 2, receiver.Count())
			require.Equal(t, int64(1), client.Dialled(), "it went over the first one's connection")
			for _, got := range receiver.All() {
				require.Len(t, got.Body, len(r.Body))
				require.NotContains(t, got.Header, "Transfer-Encoding")
				if r.Method != http.MethodPost {
					require.NotContains(t, got.Header, "Content-Length")
				}
			}
		})
	}
}

func TestARequestWithoutABodyHasNoneOverHTTP2Either(t *testing.T) {
	t.Parallel()
	receiver := receivertest.New(t, receivertest.WithHTTP2())
	u, err := url.Parse(receiver.URL + "/hook?a=1")
	require.NoError(t, err)
	client := newClient(t, egress.Options{RootCAs: receiver.RootCAs()})
	result := client.Do(t.Context(), &egress.Request{Method: http.MethodGet, URL: u, Header: http.Header{}, Timeout: 5 * time.Second})
	require.Equal(t, 200, result.Status)
	got := receiver.Next(t)
	require.Equal(t, "HTTP/2.0", got.Proto)
	require.Empty(t, got.Body)
	require.NotContains(t, got.Header, "Content-Length")
	require.NotContains(t, got.Header, "Content-Type")
}
