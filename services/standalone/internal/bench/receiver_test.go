package bench

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheQuerySaysHowARequestIsTreated(t *testing.T) {
	t.Parallel()
	base := Behaviour{Share: 1, LeastDelay: time.Second, MostDelay: time.Second}
	tests := map[string]struct {
		query string
		want  Behaviour
		err   string
	}{
		"nothing":            {want: base},
		"a status":           {query: "status=503&delay=0s", want: Behaviour{Status: 503, Share: 1}},
		"a range of delays":  {query: "delay=100ms-2s", want: Behaviour{Share: 1, LeastDelay: 100 * time.Millisecond, MostDelay: 2 * time.Second}},
		"a share that hangs": {query: "share=0.25&hang=true&delay=0s&retry_after=5s", want: Behaviour{Share: 0.25, Hang: true, RetryAfter: 5 * time.Second}},
		"no status":          {query: "status=99", err: "no status"},
		"no number":          {query: "status=x", err: "invalid syntax"},
		"no share":           {query: "share=1.5", err: "no share"},
		"not a number":       {query: "share=NaN", err: "no share"},
		"delays turned":      {query: "delay=2s-1s", err: "no range"},
		"no delay":           {query: "delay=2", err: "no delay"},
		"no second delay":    {query: "delay=2s-x", err: "no delay"},
		"a negative wait":    {query: "retry_after=-1s", err: "no time"},
		"a word of its own":  {query: "state=500", err: `no "state"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			query, err := url.ParseQuery(tt.query)
			require.NoError(t, err)
			got, err := base.with(query)
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}

func TestAShareIsTreatedSo(t *testing.T) {
	t.Parallel()
	const n = 10_000
	failing := 0
	for range n {
		d := Behaviour{Share: 0.2, LeastDelay: time.Second, MostDelay: 3 * time.Second}.draw()
		if d.Status == http.StatusOK {
			require.Equal(t, Behaviour{Status: http.StatusOK}, d)
			continue
		}
		failing++
		require.Equal(t, http.StatusInternalServerError, d.Status)
		require.GreaterOrEqual(t, d.LeastDelay, time.Second)
		require.Less(t, d.LeastDelay, 3*time.Second)
	}
	require.InDelta(t, 0.2*n, failing, 6*math.Sqrt(n*0.2*0.8))
	require.Equal(t, http.StatusOK, Plain().draw().Status)
	require.Equal(t, 204, Behaviour{Share: 1, Status: 204}.draw().Status)
}

func TestTheReceiverAnswersAndCounts(t *testing.T) {
	t.Parallel()
	var seen []string
	r := NewReceiver(Plain(), func(body []byte, _ time.Time) bool {
		seen = append(seen, string(body))
		return true
	})
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	post := func(ctx context.Context, path string) (status int, retryAfter string, err error) {
		q, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+path, strings.NewReader("body of "+path))
		require.NoError(t, err)
		resp, err := server.Client().Do(q)
		if err != nil {
			return 0, "", err
		}
		return resp.StatusCode, resp.Header.Get("Retry-After"), resp.Body.Close()
	}
	for path, status := range map[string]int{"/a": 200, "/b?status=503&retry_after=7s": 503, "/b?delay=1ms&status=202": 202, "/c?x=1": 400} {
		got, retryAfter, err := post(t.Context(), path)
		require.NoError(t, err)
		require.Equal(t, status, got, path)
		require.Equal(t, status == 503, retryAfter == "7", path)
	}
	impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err := post(impatient, "/hangs?hang=true")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Eventually(t, func() bool { return len(r.Received().Answers) == 5 }, 10*time.Second, time.Millisecond)
	got := r.Received()
	require.Equal(t, []Answer{{"/a", 200, 1}, {"/b", 202, 1}, {"/b", 503, 1}, {"/c", 400, 1}, {"/hangs", 0, 1}}, got.Answers)
	require.EqualValues(t, 5, got.Requests)
	require.Positive(t, got.PerSecond)
	require.Positive(t, got.Bytes)
	require.ElementsMatch(t, []string{"body of /a", "body of /b?delay=1ms&status=202"}, seen, "only what was answered with a 2xx")
}

func TestThereIsABoundOnThePaths(t *testing.T) {
	t.Parallel()
	r := NewReceiver(Plain(), nil)
	for i := range 2 * mostPaths {
		r.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("/%03d", i), http.NoBody))
	}
	got := r.Received()
	require.Len(t, got.Answers, mostPaths+1)
	require.Equal(t, Answer{otherPaths, 200, mostPaths}, got.Answers[0])
	require.EqualValues(t, 1, got.AtOnce)
}
