package cli

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/services/standalone/internal/bench"
	"github.com/postrider/postrider/test/fixture/ports"
)

func (s *shell) benchLoad(t *testing.T, args ...string) *bench.Result {
	t.Helper()
	var r bench.Result
	require.NoError(t, json.Unmarshal([]byte(s.ok(t, append([]string{"bench", "load", "-o", "json"}, args...)...)), &r))
	return &r
}

func TestALoadIsMeasuredByEachMethodInBothLoops(t *testing.T) {
	t.Parallel()
	s := running(t)
	for _, method := range benchMethods {
		for name, rate := range map[string]string{"closed": "0", "open": "200"} {
			t.Run(method+" "+name, func(t *testing.T) {
				r := s.benchLoad(t, "--method", method, "--rate", rate, "--duration", "500ms", "--producers", "4", "--batch", "10", "--create-webhook", "--type", "load.it")
				require.Positive(t, r.Accepted)
				require.Positive(t, r.AcceptedPerSecond)
				require.Empty(t, r.Refused)
				require.Zero(t, r.Unanswered)
				require.Equal(t, 1024, r.DataBytes)
				require.Positive(t, r.Ack.P50)
				require.LessOrEqual(t, r.Ack.P50, r.Ack.P90)
				require.LessOrEqual(t, r.Ack.P90, r.Ack.P99)
				require.LessOrEqual(t, r.Ack.P99, r.Ack.Max)
				require.Equal(t, r.Accepted, r.Delivery.Delivered)
				require.Zero(t, r.Delivery.Missing)
				require.Zero(t, r.Delivery.Duplicates)
				require.Positive(t, r.Delivery.DeliveredPerSecond)
				require.Positive(t, r.Delivery.Lag.Max)
				calls := r.Ack.Count
				if method == bench.Batch {
					calls *= 10
				}
				if rate == "0" {
					require.Equal(t, r.Accepted, calls)
					return
				}
				if method == bench.Batch {
					require.Equal(t, r.Accepted+10*r.Behind, calls)
				} else {
					require.Equal(t, r.Accepted+r.Behind, calls)
				}
				require.EqualValues(t, 100, calls, "as many as are due in half a second")
			})
		}
	}
	require.Empty(t, list(t, s.json(t, "webhooks", "list"), "webhooks"), "nothing is left")
}

func TestALoadCreatesNothingUnlessItIsTold(t *testing.T) {
	t.Parallel()
	s := running(t)
	out := s.ok(t, "bench", "load", "--duration", "100ms", "--producers", "2")
	require.Regexp(t, `(?m)^accepted +\d+ +\d+\.\d/s$`, out)
	require.Regexp(t, `(?m)^receipt, from the call +\d`, out)
	require.NotContains(t, out, "delivered")
	require.Empty(t, list(t, s.json(t, "webhooks", "list"), "webhooks"))
}

// The receiver fails a share, whose deliveries are tried again.
func TestALoadIsDeliveredInSpiteOfAFailingReceiver(t *testing.T) {
	t.Parallel()
	s := running(t)
	r := s.background(t, "bench", "receiver", "--fail-share", "0.3", "--status", "503", "-o", "json")
	r.await(t, "receiving on")
	w := s.webhook(t, benchURL(r)+"hook", "--events", "*", "--retry-delays", "1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s", "--retry-jitter", "0")
	sent := s.benchLoad(t, "--duration", "100ms", "--rate", "200")
	require.EqualValues(t, 20, sent.Accepted+sent.Behind)
	require.Eventually(t, func() bool {
		return len(list(t, s.json(t, "deliveries", "list", "--webhook", w, "--state", "delivered"), "deliveries")) == int(sent.Accepted)
	}, patience, 20*time.Millisecond)
	r.cancel()
	end := r.end(t)
	require.Equal(t, exitOK, end.code, end.err)
	var got bench.Received
	require.NoError(t, json.Unmarshal([]byte(end.out), &got))
	byStatus := map[int]int64{}
	for _, a := range got.Answers {
		require.Equal(t, "/hook", a.Path)
		byStatus[a.Status] = a.Count
	}
	require.Equal(t, sent.Accepted, byStatus[200])
	require.Equal(t, got.Requests-sent.Accepted, byStatus[503])
}

func TestALoadListensForAWebhookThatExists(t *testing.T) {
	t.Parallel()
	s := running(t)
	block, err := ports.Reserve()
	require.NoError(t, err)
	t.Cleanup(block.Release)
	port := strconv.Itoa(block.First)
	s.webhook(t, "http://127.0.0.1:"+port+"/", "--events", "some.*")
	load := []string{"--receive", "--port", port, "--duration", "500ms", "--rate", "100", "--wait", "1s"}
	r := s.benchLoad(t, append(load, "--type", "some.load", "--wait", "1m")...)
	require.EqualValues(t, 50, r.Accepted+r.Behind)
	require.Equal(t, r.Accepted, r.Delivery.Delivered)
	require.Zero(t, r.Delivery.Missing)

	end := s.fails(t, exitFailure, "accepted events had not arrived in the end", append([]string{"bench", "load", "-o", "json"}, load...)...)
	require.NoError(t, json.Unmarshal([]byte(end.out), r))
	require.Positive(t, r.Accepted)
	require.Equal(t, r.Accepted, r.Delivery.Missing)
	require.Zero(t, r.Delivery.Delivered)
}

func TestALoadIsEndedByAnInterruption(t *testing.T) {
	t.Parallel()
	s := running(t)
	l := s.background(t, "bench", "load", "--duration", "1h", "--create-webhook")
	l.await(t, "publishing, seconds")
	l.cancel()
	end := l.end(t)
	require.Equal(t, exitOK, end.code, end.err)
	require.Regexp(t, `(?m)^accepted +\d+`, end.out)
	require.Empty(t, list(t, s.json(t, "webhooks", "list"), "webhooks"))
}

// Trouble that may pass is counted, and the load goes on.
func TestALoadCountsWhatIsRefused(t *testing.T) {
	t.Parallel()
	s := &shell{env: map[string]string{"POSTRIDER_SERVER": "127.0.0.1:1", "POSTRIDER_KEY": "some"}}
	for _, method := range benchMethods {
		for _, rate := range []string{"0", "100"} {
			end := s.fails(t, exitFailure, "no event was accepted", "bench", "load", "--method", method, "--rate", rate, "--duration", "300ms", "-o", "json")
			var r bench.Result
			require.NoError(t, json.Unmarshal([]byte(end.out), &r))
			require.Zero(t, r.Accepted)
			refused := r.Refused
			if method == bench.Stream {
				refused = r.Broken
			}
			require.Positive(t, refused["UNAVAILABLE"], "%s: %s", method, end.out)
			require.Len(t, refused, 1)
		}
	}
}

func TestALoadThatCannotSucceedIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	s := running(t)
	for _, method := range benchMethods {
		s.with("POSTRIDER_KEY", "nonsense").fails(t, exitRefused, "", "bench", "load", "--duration", "1h", "--method", method)
		s.fails(t, exitRefused, "", "bench", "load", "--duration", "1h", "--method", method, "--type", "no type")
	}
	for words, args := range map[string][]string{
		"--method must be":       {"--method", "POST"},
		"--rate must be":         {"--rate", "-1"},
		"--size must be":         {"--size", "10"},
		"--producers must be":    {"--producers", "100000"},
		"--duration must be":     {"--duration", "0s"},
		"goes with --create":     {"--receiver-url", "http://example.com"},
		"none of the others can": {"--receive", "--create-webhook"},
	} {
		s.fails(t, exitUsage, words, append([]string{"bench", "load"}, args...)...)
	}
	s.fails(t, exitUsage, "no delay", "bench", "receiver", "--delay", "soon")
	s.fails(t, exitUsage, "no status", "bench", "receiver", "--status", "42")
	require.Equal(t, []string{"batch"}, s.completes(t, "bench", "load", "--method", "b"))
}

func TestAReceiverBehavesAsToldAndCounts(t *testing.T) {
	t.Parallel()
	s := &shell{}
	r := s.background(t, "bench", "receiver", "--status", "202")
	r.await(t, "receiving on")
	for path, status := range map[string]int{"a": 202, "a?status=429&retry_after=1s": 429} {
		q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, benchURL(r)+path, strings.NewReader("{}"))
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(q)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, status, resp.StatusCode)
	}
	http.DefaultClient.CloseIdleConnections()
	r.cancel()
	end := r.end(t)
	require.Equal(t, exitOK, end.code, end.err)
	require.Regexp(t, `(?m)^/a +202 +1$`, end.out)
	require.Regexp(t, `(?m)^/a +429 +1$`, end.out)
}

// benchURL is where a program that runs receives.
func benchURL(b *background) string {
	return regexp.MustCompile(`receiving on (\S+)`).FindStringSubmatch(b.err.String())[1]
}
