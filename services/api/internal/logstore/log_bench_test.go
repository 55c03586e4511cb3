//go:build logbench

package logstore_test

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
	"github.com/postrider/postrider/test/fixture/pgtest"
)

// attempts is how many the log holds; make bench/log asks for a million.
var attempts = flag.Int("attempts", 100_000, "attempts that the log holds")

const (
	perBatch     = 2048 // about what the recorder takes at once under load
	asked        = 201  // times that each question is asked
	benchDays    = 10
	benchWebhook = 50
)

// many makes the journal of events, of which one in fifty failed for good.
func many(from, n int) []*recordv1.JournalEntry {
	var out []*recordv1.JournalEntry
	for i := from; i < from+n; i++ {
		when := start.Add(time.Duration(i) * benchDays * 24 * time.Hour / time.Duration(*attempts))
		state := postrider.Delivered
		if i%50 == 0 {
			state = postrider.Dead
		}
		id := eventAt(when, i)
		entries := accepted(id, state, &recordv1.Routed{DedupKey: fmt.Sprintf("key:order-%d", i), Traceparent: fmt.Sprintf("00-%032x-b7ad6b7169203331-01", i+1)})
		webhook := fmt.Sprintf("wh_%d", i%benchWebhook)
		delivery := string(postrider.DeliveryIDFor(id, postrider.WebhookID(webhook), ""))
		entries[0].GetRouted().Deliveries[0] = &recordv1.RoutedDelivery{DeliveryId: delivery, WebhookId: webhook}
		entries[1].DeliveryId, entries[1].WebhookId = delivery, webhook
		at := entries[1].GetAttempted()
		at.RequestMethod, at.RequestUrl, at.RequestBody = "POST", "https://hooks.example.com/a", nil
		at.RequestHeaders = map[string]string{"Webhook-Id": string(id), "Webhook-Signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=", "Content-Type": "application/json"}
		if state == postrider.Dead {
			at.Outcome, at.StatusCode, at.ErrorClass = "retryable", 500+int32(i/50%3), "http_status"
		}
		for _, e := range entries {
			e.EventType = fmt.Sprintf("type.%d", i%7)
		}
		out = append(out, entries...)
	}
	return out
}

func ownCPU() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func BenchmarkLogSQLite(b *testing.B) {
	benchmarkLog(b, openSQLite(b), func() time.Duration { return 0 })
}

func BenchmarkLogPostgreSQL(b *testing.B) {
	server := pgtest.Start(b, "shared_buffers=256MB", "max_wal_size=2GB")
	benchmarkLog(b, openPostgres(b, server.URL(b)), func() time.Duration { return server.CPU(b) })
}

func benchmarkLog(b *testing.B, s logstore.Store, serverCPU func() time.Duration) {
	b.Helper()
	// In half of the batches routing is recorded a moment before the attempts, so that rows are made
	// first and then changed; in the others both come together, as they do when there is much to record.
	spent := map[string]*struct {
		attempts  int
		took, cpu time.Duration
	}{"apart": {}, "together": {}}
	for from := 0; from < *attempts; from += perBatch {
		entries := many(from, min(perBatch, *attempts-from))
		slices.SortStableFunc(entries, func(a, b *recordv1.JournalEntry) int { return len(a.GetDeliveryId()) - len(b.GetDeliveryId()) })
		how, parts := "together", [][]*recordv1.JournalEntry{entries}
		if from/perBatch%2 == 0 {
			how, parts = "apart", [][]*recordv1.JournalEntry{entries[:len(entries)/2], entries[len(entries)/2:]}
		}
		messages := make([][][]byte, len(parts))
		for i, part := range parts {
			messages[i] = recordPack(b, part)
		}
		begun, cpu := time.Now(), serverCPU()+ownCPU()
		for _, part := range messages {
			recordMessages(b, s, part)
		}
		sum := spent[how]
		sum.attempts, sum.took, sum.cpu = sum.attempts+len(entries)/2, sum.took+time.Since(begun), sum.cpu+serverCPU()+ownCPU()-cpu
	}
	for _, how := range []string{"apart", "together"} {
		sum := spent[how]
		b.Logf("%s: %d attempts recorded (routing and attempt %s), %.0f/s, CPU %.4f s per 1000 attempts", s.Kind(), sum.attempts, how,
			float64(sum.attempts)/sum.took.Seconds(), sum.cpu.Seconds()/float64(sum.attempts)*1000)
	}
	middle := *attempts / 2 / 50 * 50
	when := start.Add(time.Duration(middle) * benchDays * 24 * time.Hour / time.Duration(*attempts))
	event := eventAt(when, middle)
	delivery := postrider.DeliveryIDFor(event, postrider.WebhookID(fmt.Sprintf("wh_%d", middle%benchWebhook)), "")
	list := func(q logstore.Query) func(context.Context) (int, error) {
		return func(ctx context.Context) (int, error) {
			q.Account, q.Limit = account, 51
			page, err := s.Deliveries(ctx, q)
			return len(page), err
		}
	}
	events := func(q logstore.EventQuery) func(context.Context) (int, error) {
		return func(ctx context.Context) (int, error) {
			q.Account, q.Limit = account, 51
			page, err := s.RecordedEvents(ctx, q)
			return len(page), err
		}
	}
	// A week ends a quarter after what is in the middle, as the charts' longest range does now.
	activity := func(webhook string) func(context.Context) (int, error) {
		end := when.Add(benchDays * 6 * time.Hour).Truncate(time.Hour)
		return func(ctx context.Context) (int, error) {
			counts, err := s.Activity(ctx, logstore.ActivityQuery{Account: account, WebhookID: webhook, Start: end.Add(-7 * 24 * time.Hour), End: end, Minutes: 120})
			return len(counts), err
		}
	}
	for _, q := range []struct {
		name string
		ask  func(context.Context) (int, error)
	}{
		{"deliveries", list(logstore.Query{})},
		{"deliveries, from the middle", list(logstore.Query{After: logstore.Cursor{CreateTime: when, ID: string(delivery)}})},
		{"deliveries of a time", list(logstore.Query{Start: when, End: when.Add(time.Hour)})},
		{"deliveries of a webhook", list(logstore.Query{WebhookID: "wh_7"})},
		{"deliveries of a type", list(logstore.Query{EventType: "type.3"})},
		{"deliveries of an event", list(logstore.Query{EventID: string(event)})},
		{"dead deliveries", list(logstore.Query{State: postrider.Dead})},
		{"deliveries with a status", list(logstore.Query{StatusCode: 501})},
		{"deliveries with an outcome", list(logstore.Query{Outcome: postrider.Retryable})},
		{"the oldest that is dead", list(logstore.Query{State: postrider.Dead, OldestFirst: true})},
		{"dead deliveries of a type", list(logstore.Query{EventType: "type.3", State: postrider.Dead})},
		{"a webhook's with a status", list(logstore.Query{WebhookID: "wh_0", StatusCode: 502})},
		{"dead deliveries of a webhook", list(logstore.Query{WebhookID: "wh_0", State: postrider.Dead})},
		{"a call id", list(logstore.Query{CallID: delivery.UUID().String()})},
		{"a delivery", func(ctx context.Context) (int, error) {
			_, err := s.Delivery(ctx, account, string(delivery))
			return 1, err
		}},
		{"an attempt", func(ctx context.Context) (int, error) {
			_, _, err := s.AttemptOwner(ctx, account, "att_"+string(event)[4:])
			return 1, err
		}},
		{"attempts of a delivery", func(ctx context.Context) (int, error) {
			page, err := s.Attempts(ctx, account, string(delivery), 0, 51)
			return len(page), err
		}},
		{"an event", func(ctx context.Context) (int, error) { _, err := s.Event(ctx, account, string(event)); return 1, err }},
		{"events", events(logstore.EventQuery{})},
		{"events of a type", events(logstore.EventQuery{EventType: "type.3"})},
		{"an idempotency key", events(logstore.EventQuery{Key: fmt.Sprintf("order-%d", middle)})},
		{"a trace", events(logstore.EventQuery{TraceID: fmt.Sprintf("%032x", middle+1)})},
		{"a week's attempts", activity("")},
		{"a week's attempts of a webhook", activity("wh_7")},
		{"the ledger", func(ctx context.Context) (int, error) { l, err := s.Ledger(ctx); return len(l), err }},
	} {
		times := make([]time.Duration, asked)
		for i := range times {
			begun := time.Now()
			n, err := q.ask(b.Context())
			times[i] = time.Since(begun)
			require.NoError(b, err, q.name)
			require.Positive(b, n, q.name)
		}
		slices.Sort(times)
		b.Logf("%-30s p50 %8.2f ms  p99 %8.2f ms", q.name, ms(times[asked/2]), ms(times[asked*99/100]))
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
