//go:build integration

package logstore_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
	"github.com/postrider/postrider/test/fixture/pgtest"
)

const (
	recordBatch   = 2048 // attempts in a transaction: about what the recorder takes at once under load
	recordMessage = 64   // entries in a message of the journal
	recordHooks   = 50
	recordGap     = 200 * time.Microsecond // between two events
)

// recordStart is when the first event was accepted: all are of one day, as they are while it is recorded.
var recordStart = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)

// The CPU that recording takes, that of PostgreSQL's server included: reading the journal's messages and
// merging them into the log. In "together" routing and attempt come in one transaction, as they do when there is
// much to record; in "apart" each delivery is recorded as routed first.
func BenchmarkRecordSQLite(b *testing.B) {
	benchmarkRecord(b, openSQLite, func() time.Duration { return 0 })
}

func BenchmarkRecordPostgreSQL(b *testing.B) {
	server := pgtest.Start(b, "shared_buffers=256MB", "max_wal_size=2GB")
	benchmarkRecord(b, func(tb testing.TB) logstore.Store {
		tb.Helper()
		return openPostgres(tb, server.URL(tb))
	}, func() time.Duration { return server.CPU(b) })
}

func benchmarkRecord(b *testing.B, open opener, serverCPU func() time.Duration) {
	b.Helper()
	for _, how := range []string{"together", "apart"} {
		b.Run(how, func(b *testing.B) {
			s := open(b)
			// What makes the entries counts for nothing, and so it is not in the loop's time either.
			var store, server time.Duration
			for n := 0; b.Loop(); n++ {
				b.StopTimer()
				routed, attempted := recordEntries(b, n*recordBatch, recordBatch)
				transactions := [][][]byte{append(routed, attempted...)}
				if how == "apart" {
					transactions = [][][]byte{routed, attempted}
				}
				b.StartTimer()
				others := serverCPU()
				own := processCPU()
				for _, messages := range transactions {
					recordMessages(b, s, messages)
				}
				store += processCPU() - own
				server += serverCPU() - others
			}
			perThousand := 1000 / float64(b.N*recordBatch)
			b.ReportMetric((store+server).Seconds()*perThousand, "cpu-s/1000-attempts")
			b.ReportMetric(server.Seconds()*perThousand, "server-cpu-s/1000-attempts")
		})
	}
}

// recordMessages does what the recorder does with messages that it has taken.
func recordMessages(b *testing.B, s logstore.Store, messages [][]byte) {
	b.Helper()
	batch := logstore.NewBatch()
	for _, raw := range messages {
		require.NoError(b, batch.Add(raw))
	}
	require.NoError(b, s.Record(b.Context(), batch))
}

// recordEntries makes the journal's messages about events, each for one webhook, of which one in fifty failed for good.
func recordEntries(b *testing.B, from, n int) (routed, attempted [][]byte) {
	b.Helper()
	var routing, attempts []*recordv1.JournalEntry
	for i := from; i < from+n; i++ {
		when := recordStart.Add(time.Duration(i) * recordGap)
		id := eventAt(when, i)
		state := postrider.Delivered
		if i%50 == 0 {
			state = postrider.Dead
		}
		entries := accepted(id, state, &recordv1.Routed{
			DedupKey: fmt.Sprintf("key:order-%d", i), Traceparent: fmt.Sprintf("00-%016x%016x-b7ad6b7169203331-01", uint64(i+1)*0x9e3779b97f4a7c15, i+1),
		})
		webhook := fmt.Sprintf("wh_01KBD7GZ8YRPV6M2N%09d", i%recordHooks)
		delivery := string(postrider.DeliveryIDFor(id, postrider.WebhookID(webhook), ""))
		entries[0].GetRouted().Deliveries[0] = &recordv1.RoutedDelivery{DeliveryId: delivery, WebhookId: webhook}
		entries[1].DeliveryId, entries[1].WebhookId = delivery, webhook
		at := entries[1].GetAttempted()
		at.DurationUs, at.RequestBody, at.RequestBodyIsData, at.RequestBodySize = int64(1500+i%977), nil, true, 412
		at.StartTime = timestamppb.New(when.Add(3 * time.Millisecond))
		at.RequestMethod, at.RequestUrl = "POST", "https://hooks.example.com/a"
		at.RequestHeaders = map[string]string{
			"Webhook-Id": string(id), "Webhook-Timestamp": "1764547200", "Webhook-Signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
			"Content-Type": "application/json", "User-Agent": "Postrider/1.0",
		}
		at.ResponseHeaders = map[string]string{"Content-Type": "text/plain", "Date": "Sat, 21 Nov 2026 00:00:00 GMT"}
		at.Timings = &recordv1.Timings{FirstByteUs: 1400, Reused: true, RemoteAddress: "192.0.2.10:443"}
		if state == postrider.Dead {
			at.Outcome, at.StatusCode, at.ErrorClass = "retryable", 500+int32(i/50%3), "http_status"
		}
		for _, e := range entries {
			e.AccountId = recordAccount
			e.EventType = fmt.Sprintf("release.type-%d", i%7)
		}
		routing, attempts = append(routing, entries[0]), append(attempts, entries[1])
	}
	return recordPack(b, routing), recordPack(b, attempts)
}

const recordAccount = "acc_01KBD7GZ8YRPV6M2N4T5W6X7Y8"

func recordPack(b *testing.B, entries []*recordv1.JournalEntry) (messages [][]byte) {
	b.Helper()
	for len(entries) > 0 {
		n := min(recordMessage, len(entries))
		raw, err := proto.Marshal(&recordv1.JournalBatch{Entries: entries[:n]})
		require.NoError(b, err)
		messages, entries = append(messages, raw), entries[n:]
	}
	return messages
}

func processCPU() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
