package bench

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
)

// BenchmarkReceiver is what the receiver's own handler costs, without net/http.
func BenchmarkReceiver(b *testing.B) {
	r := &receiver{}
	id := "evt_" + ulid.Make().String()
	body := string(payload())
	b.ReportAllocs()
	for b.Loop() {
		q := httptest.NewRequestWithContext(b.Context(), http.MethodPost, hookPath+"7", strings.NewReader(body))
		q.Header.Set("Webhook-Id", id)
		w := httptest.NewRecorder()
		r.ServeHTTP(w, q)
		if w.Code != http.StatusOK {
			b.Fatal(w.Code)
		}
	}
}

// BenchmarkRawPost is one POST of the plain loop with its receiver, both in this process.
func BenchmarkRawPost(b *testing.B) {
	server := httptest.NewServer(&receiver{})
	b.Cleanup(server.Close)
	l, err := newRawLoop(server.URL)
	require.NoError(b, err)
	b.Cleanup(l.close)
	b.SetParallelism(rawWorkers / 2)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := l.post(b.Context(), 1); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func TestRawLoopCountsWhatTheReceiverSaw(t *testing.T) {
	t.Parallel()
	r := &receiver{}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	l, err := newRawLoop(server.URL)
	require.NoError(t, err)
	t.Cleanup(l.close)
	raw, err := l.run(t.Context(), os.Getpid(), 50*time.Millisecond)
	require.NoError(t, err)
	require.EqualValues(t, r.count.Load(), raw.Posts)
	require.Positive(t, raw.Posts)
	require.Positive(t, raw.PerSecond)
}

func TestCheckHoldsTheAcceptedAgainstTheArrived(t *testing.T) {
	t.Parallel()
	a, b := ulid.Make(), ulid.Make()
	accepted := []publication{{event: b, acked: 100}, {event: a, acked: 50}}
	tests := map[string]struct {
		arrivals   []arrival
		fanOut     int
		want       string
		duplicates int
	}{
		"all arrived":                        {arrivals: []arrival{{b, 1, 110}, {a, 1, 60}}, fanOut: 1},
		"all arrived at two webhooks":        {arrivals: []arrival{{b, 1, 110}, {a, 2, 60}, {b, 2, 120}, {a, 1, 60}}, fanOut: 2},
		"one came twice":                     {arrivals: []arrival{{b, 1, 110}, {a, 1, 60}, {b, 1, 111}}, fanOut: 1, duplicates: 1},
		"one never arrived":                  {arrivals: []arrival{{a, 1, 60}}, fanOut: 1, want: "arrived at 0 of 1"},
		"one arrived twice at one of two":    {arrivals: []arrival{{a, 1, 60}, {a, 1, 61}, {b, 1, 60}, {b, 2, 60}}, fanOut: 2, want: "arrived at 1 of 2"},
		"one arrived that was not accepted":  {arrivals: []arrival{{a, 1, 60}, {b, 1, 60}, {ulid.Make(), 1, 60}}, fanOut: 1, want: "was not accepted"},
		"an older one arrived, not accepted": {arrivals: []arrival{{ulid.ULID{}, 1, 60}, {a, 1, 60}, {b, 1, 60}}, fanOut: 1, want: "was not accepted"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := check(append([]publication(nil), accepted...), tt.arrivals, tt.fanOut)
			if tt.want != "" {
				require.ErrorContains(t, err, tt.want)
				return
			}
			require.NoError(t, err)
			require.Equal(t, 2*tt.fanOut, l.deliveries)
			require.Equal(t, tt.duplicates, l.duplicates)
			require.EqualValues(t, 10, l.lag[0])
		})
	}
}

func TestArrivalsKeepTheirBytes(t *testing.T) {
	t.Parallel()
	list := []arrival{{ulid.Make(), 7, 1 << 60}, {ulid.Make(), 65535, 1}}
	var out strings.Builder
	writeArrivals(&out, list)
	got, err := readArrivals(strings.NewReader(out.String()))
	require.NoError(t, err)
	require.Equal(t, list, got)
	_, err = readArrivals(strings.NewReader(out.String()[1:]))
	require.Error(t, err)
}

func TestStatOfAProcessIsRead(t *testing.T) {
	t.Parallel()
	d, err := parseStat([]byte("42 (a ) b) S 1 42 42 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 5 0 100"))
	require.NoError(t, err)
	require.Equal(t, 2*time.Second, d)
	_, err = parseStat([]byte("42"))
	require.Error(t, err)
	own, err := cpuOf(os.Getpid())
	require.NoError(t, err)
	require.GreaterOrEqual(t, own, time.Duration(0))
}

func TestMemoryOfAProcessIsRead(t *testing.T) {
	t.Parallel()
	resident, err := processes{"own": os.Getpid()}.memory()
	require.NoError(t, err)
	require.Greater(t, resident["own"], int64(1<<20))
}

func TestReceiverTakesWhatComesOverTLS(t *testing.T) {
	t.Parallel()
	in, end := io.Pipe()
	out, said := io.Pipe()
	served := make(chan error, 1)
	go func() { served <- ServeReceiver(t.Context(), in, said) }()
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	fields := strings.Fields(line)
	require.Len(t, fields, 3)
	ca, err := base64.StdEncoding.DecodeString(fields[2])
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(ca))
	l, err := newRawLoop(fields[1])
	require.NoError(t, err)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	l.client = &http.Client{Transport: transport}
	require.NoError(t, l.post(t.Context(), 1))
	l.close()
	require.NoError(t, end.Close())
	require.NoError(t, <-served)
}

func TestPayloadHasItsSize(t *testing.T) {
	t.Parallel()
	require.Len(t, payload(), payloadSize)
}
