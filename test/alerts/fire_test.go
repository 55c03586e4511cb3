package alerts_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	promrules "github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"
)

// scene is what was scraped, and which of the alerts fire at its end. Alerts that are not named may
// do as they like.
type scene struct {
	step  time.Duration // between samples
	load  string        // series and their samples, as Prometheus' own tests write them
	watch time.Duration // the last part of the scene, in which rules are evaluated
	end   time.Duration
	fire  []string
	quiet []string
}

// Both burn rates of each objective, and each alert whose condition is more than one comparison.
func TestAlertsFire(t *testing.T) {
	t.Parallel()
	const good = `postrider_ingest_events_total{account_class="standard",outcome="accepted"} 0+6000x`
	const bad = `postrider_ingest_events_total{account_class="standard",outcome="rejected",reason="RECORD_UNAVAILABLE"} 0+`
	latency := func(within string) string {
		return `postrider_ingest_acceptance_duration_seconds_bucket{account_class="standard",outcome="accepted",le="0.1"} 0+` + within + `x200
			postrider_ingest_acceptance_duration_seconds_bucket{account_class="standard",outcome="accepted",le="+Inf"} 0+1000x200
			postrider_ingest_acceptance_duration_seconds_count{account_class="standard",outcome="accepted"} 0+1000x200`
	}
	first := func(class, within string) string {
		return `postrider_delivery_first_attempt_delay_seconds_bucket{account_class="` + class + `",le="2"} 0+` + within + `x200
			postrider_delivery_first_attempt_delay_seconds_count{account_class="` + class + `"} 0+1000x200`
	}
	const slots = `
		postrider_delivery_inflight 0+0x200
		postrider_delivery_concurrency_limit 1536x200`
	for name, s := range map[string]scene{
		"one refusal in a hundred pages": {
			load: good + "200\n" + bad + "60x200", end: 2 * time.Hour, fire: []string{"IngestErrorBudgetFast"},
		},
		"what producers do wrong does not": {
			load: good + "200\n" + `postrider_ingest_events_total{account_class="standard",outcome="rejected",reason="INVALID_ARGUMENT"} 0+600x200`,
			end:  2 * time.Hour, quiet: []string{"IngestErrorBudgetFast", "IngestErrorBudgetSlow"},
		},
		"a burst that is over does not page any more": {
			load: good + "200\n" + bad + "0x20 600+600x10 6600+0x160", end: 2 * time.Hour, quiet: []string{"IngestErrorBudgetFast"},
		},
		"two refusals in a thousand for a day are a ticket": {
			step: 10 * time.Minute, load: good + "200\n" + bad + "12x200", end: 30 * time.Hour, watch: time.Hour,
			fire: []string{"IngestErrorBudgetSlow"}, quiet: []string{"IngestErrorBudgetFast"},
		},
		"no traffic is no error": {
			load: good[:len(good)-len("0+6000x")] + "0+0x200", end: 2 * time.Hour, quiet: []string{"IngestErrorBudgetFast", "AcceptanceLatencyFast"},
		},
		"a fifth of the events above 100 ms pages": {
			load: latency("800"), end: 2 * time.Hour, fire: []string{"AcceptanceLatencyFast"},
		},
		"half a percent above 100 ms does not": {
			load: latency("995"), end: 2 * time.Hour, quiet: []string{"AcceptanceLatencyFast"},
		},
		"premium accounts that wait page": {
			load: first("premium", "700"), end: 2 * time.Hour, fire: []string{"FirstAttemptLatencyFast"},
		},
		"free accounts that wait are a ticket": {
			load: first("free", "700"), end: 2 * time.Hour, fire: []string{"FirstAttemptLatencySlow"}, quiet: []string{"FirstAttemptLatencyFast"},
		},
		"retries that come late are a ticket": {
			load: `postrider_scheduler_release_delay_seconds_bucket{le="5"} 0+700x200
				postrider_scheduler_release_delay_seconds_count 0+1000x200`, end: 2 * time.Hour, fire: []string{"RetryPunctuality"},
		},
		"the api fails": {
			load: `http_server_request_duration_seconds_count{service="api",http_response_status_code="200"} 0+900x200
				http_server_request_duration_seconds_count{service="api",http_response_status_code="500"} 0+100x200`, end: 2 * time.Hour, fire: []string{"ApiErrorBudgetFast"},
		},
		"an old message pages while there are slots": {
			load: `postrider_backlog_oldest_age_seconds{stream="DELIVERIES_0",consumer="dispatcher",shard="0"} 0+60x200` + slots, end: time.Hour,
			fire: []string{"BacklogAgeHigh"}, quiet: []string{"BacklogAgeHighAtCapacity"},
		},
		"and is a ticket when all are taken": {
			load: `postrider_backlog_oldest_age_seconds{stream="DELIVERIES_0",consumer="dispatcher",shard="0"} 0+60x200
				postrider_delivery_inflight 1530x200
				postrider_delivery_concurrency_limit 1536x200`, end: time.Hour,
			fire: []string{"BacklogAgeHighAtCapacity"}, quiet: []string{"BacklogAgeHigh"},
		},
		"deliveries wait and nothing is attempted": {
			load: `postrider_backlog_messages{stream="DELIVERIES_0",consumer="dispatcher",shard="0"} 0+100x200
				postrider_delivery_attempts_total{outcome="succeeded"} 500x200`, end: 30 * time.Minute, fire: []string{"BacklogGrowingNoAttempts"},
		},
		"a backlog that is worked on is none": {
			load: `postrider_backlog_messages{stream="DELIVERIES_0",consumer="dispatcher",shard="0"} 0+100x200
				postrider_delivery_attempts_total{outcome="succeeded"} 0+500x200`, end: 30 * time.Minute, quiet: []string{"BacklogGrowingNoAttempts"},
		},
		"a shard without a dispatcher": {
			load: `postrider_dispatcher_shards{instance="a"} 3x200
				postrider_streams_shards{instance="a"} 4x200`, end: 10 * time.Minute, fire: []string{"ShardNotHeld"},
		},
		"all shards held": {
			load: `postrider_dispatcher_shards{instance="a"} 3x200
				postrider_dispatcher_shards{instance="b"} 1x200
				postrider_streams_shards{instance="a"} 4x200
				postrider_streams_shards{instance="b"} 4x200`, end: 10 * time.Minute, quiet: []string{"ShardNotHeld"},
		},
		"a stream that will be full in hours": {
			load: `postrider_stream_size_bytes{stream="EVENTS"} 500+3x200
				postrider_stream_limit_bytes{stream="EVENTS"} 1000x200`, end: 2 * time.Hour, fire: []string{"StreamNearLimit"},
		},
		"a stream that is half full and stays so": {
			load: `postrider_stream_size_bytes{stream="EVENTS"} 500x200
				postrider_stream_limit_bytes{stream="EVENTS"} 1000x200`, end: 2 * time.Hour, quiet: []string{"StreamNearLimit"},
		},
		"an index that lacks records": {
			load: `postrider_retry_index_divergence -500x200
				postrider_retry_truth_messages 10000x200
				postrider_retry_index_reconcile_timestamp_seconds 0+60x200`, end: time.Hour, fire: []string{"RetryIndexDivergence"},
		},
		"an index that nobody compares": {
			load: `postrider_retry_index_divergence 0x200
				postrider_retry_truth_messages 10000x200
				postrider_retry_index_reconcile_timestamp_seconds 1x200`, end: 2 * time.Hour, fire: []string{"RetryIndexDivergence"},
		},
		"an index of few that is on its way": {
			load: `postrider_retry_index_divergence -3x200
				postrider_retry_truth_messages 10x200
				postrider_retry_index_reconcile_timestamp_seconds 0+60x200`, end: time.Hour, quiet: []string{"RetryIndexDivergence"},
		},
		"a retry that is overdue": {
			load: `postrider_scheduler_due_lag_seconds{instance="a"} 0x200
				postrider_scheduler_due_lag_seconds{instance="b"} 0+60x200`, end: time.Hour, fire: []string{"SchedulerLag"},
		},
		"no scheduler": {load: `up{job="postrider",service="router"} 1x200`, end: time.Hour, fire: []string{"SchedulerLag", "ServiceAbsent", "Watchdog"}},
		"a collapse across receivers": {
			load: `postrider_delivery_attempts_total{outcome="succeeded"} 0+10x200
				postrider_delivery_attempts_total{outcome="retryable"} 0+90x200
				postrider_circuit_webhooks{state="closed"} 50x200
				postrider_circuit_webhooks{state="open"} 50x200`, end: time.Hour, fire: []string{"DeliverySuccessCollapse", "CircuitOpenShareHigh"},
		},
		"one receiver that fails": {
			load: `postrider_delivery_attempts_total{outcome="succeeded"} 0+10x200
				postrider_delivery_attempts_total{outcome="retryable"} 0+90x200
				postrider_circuit_webhooks{state="closed"} 99x200
				postrider_circuit_webhooks{state="open"} 1x200`, end: time.Hour, quiet: []string{"DeliverySuccessCollapse", "CircuitOpenShareHigh"},
		},
		"a ledger that keeps away from 0": {
			load: `postrider_ledger_difference{account_class="free"} 2x200
				postrider_ledger_unrecorded 0x200`, end: 2 * time.Hour, fire: []string{"LedgerDifference"},
		},
		"a ledger that swings around 0": {
			load: `postrider_ledger_difference{account_class="free"} 2 -3 0 2 -3 0 2 -3 0 2 -3 0 2 -3 0 2 -3 0 2 -3 0 2 -3 0 2 -3 0 2 -3 0 2 -3 0 2 -3 0 2 -3 0 2 -3 0 2 -3 0 2 -3 0 2 -3 0 2 -3 0 2 -3 0 2 -3 0
				postrider_ledger_unrecorded 0x60`, end: 50 * time.Minute, quiet: []string{"LedgerDifference"},
		},
		"a ledger that is counted under load": {
			load: `postrider_ledger_difference{account_class="free"} 20x200
				postrider_router_events_total 0+6000x200
				postrider_ledger_unrecorded 0x200`, end: 2 * time.Hour, quiet: []string{"LedgerDifference"},
		},
		"many dead letters": {
			load: `postrider_dead_letters_total{account_class="free",reason="exhausted"} 0+0x100 10+10x100`, end: 3 * time.Hour, watch: 3 * time.Hour, fire: []string{"DeadLetterSpike"},
		},
		"a Redis that was flushed": {
			load: `postrider_scheduler_index_losses_total{instance="a"} 0x20 16x30
				postrider_scheduler_index_losses_total{instance="b"} 0x50`, end: 25 * time.Minute, fire: []string{"RedisEmptied"},
		},
		"a Redis that was flushed long ago": {
			load: `postrider_scheduler_index_losses_total{instance="a"} 0x20 16x60`, end: 40 * time.Minute, quiet: []string{"RedisEmptied"},
		},
		"schedulers that start and that are replaced": {
			load: `postrider_scheduler_index_losses_total{instance="a"} 0x15 _x35
				postrider_scheduler_index_losses_total{instance="b"} _x10 0x40
				postrider_scheduler_rebuilds_total{instance="a",result="whole"} 1x15 _x35
				postrider_scheduler_rebuilds_total{instance="b",result="whole"} _x10 1x40`, end: 20 * time.Minute, quiet: []string{"RedisEmptied"},
		},
		"ordered lines that most wait": {
			load: `postrider_ordering_lines{blocked="true"} 30x200
				postrider_ordering_lines{blocked="false"} 10x200`, end: time.Hour, fire: []string{"OrderedLinesBlocked"},
		},
		"ordered lines of which few wait": {
			load: `postrider_ordering_lines{blocked="true"} 30x200
				postrider_ordering_lines{blocked="false"} 100x200`, end: time.Hour, quiet: []string{"OrderedLinesBlocked"},
		},
		"a log that has not moved for a while": {
			load: `postrider_backlog_oldest_age_seconds{stream="JOURNAL",consumer="recorder"} 0+60x40`, end: 14 * time.Minute, fire: []string{"RecorderLag"},
		},
		"a log that catches up": {
			load: `postrider_backlog_oldest_age_seconds{stream="JOURNAL",consumer="recorder"} 0+60x10 660 300 5x40`, end: 14 * time.Minute, quiet: []string{"RecorderLag"},
		},
		"outcomes that were not stored": {
			load: `postrider_shutdown_unfinished_total{instance="a"} 0 0 0 0 0 3x60`, end: 30 * time.Minute, fire: []string{"ShutdownUnfinished"},
		},
		"messages that come again": {
			load: `postrider_redelivered_total{found="nothing"} 0+5x200
				postrider_delivery_attempts_total{outcome="succeeded"} 0+100x200`, end: time.Hour, fire: []string{"RedeliveryRateHigh"},
		},
		"a process that is away": {
			load: `up{job="postrider",service="api",instance="x"} 0x200`, end: 10 * time.Minute, fire: []string{"ServiceDown"},
		},
		"two of three NATS servers away": {
			load: `up{job="nats",instance="a"} 1x60
				up{job="nats",instance="b"} 0x60
				up{job="nats",instance="c"} 0x60
				postrider_ingest_events_total{outcome="rejected",reason="RECORD_UNAVAILABLE"} 0+10x60`, end: 20 * time.Minute, fire: []string{"NatsDown", "NatsNoQuorum"},
		},
		"NATS servers whose exporters live": {
			load: `up{job="nats",instance="a"} 1x60
				up{job="nats",instance="b"} 1x60
				up{job="nats",instance="c"} 1x60
				jetstream_server_max_storage{job="nats",instance="a"} 1x60
				jetstream_server_max_storage{job="nats",instance="b"} 1x5 _x55
				jetstream_server_max_storage{job="nats",instance="c"} 1x5 _x55
				postrider_ingest_events_total{outcome="rejected",reason="RECORD_UNAVAILABLE"} 0+10x60`, end: 20 * time.Minute, fire: []string{"NatsDown", "NatsNoQuorum"},
		},
		"no NATS server at all": {
			load: `up{job="nats",instance="a"} 0x60
				up{job="nats",instance="b"} 0x60
				up{job="nats",instance="c"} 0x60
				postrider_ingest_events_total{outcome="rejected",reason="RECORD_UNAVAILABLE"} 0+10x60`, end: 20 * time.Minute, fire: []string{"NatsDown", "NatsNoQuorum"},
		},
		"NATS servers whose exporters do not ask JetStream": {
			load: `up{job="nats",instance="a"} 1x60
				up{job="nats",instance="b"} 1x60
				up{job="nats",instance="c"} 1x60
				postrider_ingest_events_total{outcome="rejected",reason="RECORD_UNAVAILABLE"} 0+10x60`, end: 20 * time.Minute, quiet: []string{"NatsDown", "NatsNoQuorum"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			firing := play(t, s)
			for _, want := range s.fire {
				require.Contains(t, firing, want)
			}
			for _, not := range s.quiet {
				require.NotContains(t, firing, not)
			}
		})
	}
}

// play evaluates all rules over the end of a scene and returns what fires then.
func play(t *testing.T, s scene) map[string]bool {
	t.Helper()
	if s.step == 0 {
		s.step = time.Minute
	}
	if s.watch == 0 {
		s.watch = 40 * time.Minute
	}
	suite, err := promqltest.NewLazyLoader("load "+s.step.String()+"\n"+s.load, promqltest.LazyLoaderOpts{EnableAtModifier: true, EnableNegativeOffset: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, suite.Close()) })
	suite.SubqueryInterval = time.Minute
	e := newEvaluator(t, suite.QueryEngine(), suite.Storage(), time.Minute)
	begin := max(s.end-s.watch, 0)
	for at := begin; at <= s.end; at += time.Minute {
		ts := time.Unix(0, 0).UTC().Add(at)
		suite.WithSamplesTill(ts, func(err error) { require.NoError(t, err) })
		e.evaluate(t, ts)
	}
	return e.firing()
}

// evaluator is all rules over a storage.
type evaluator struct{ groups []*promrules.Group }

func newEvaluator(t *testing.T, engine promql.QueryEngine, series storage.Storage, every time.Duration) *evaluator {
	t.Helper()
	manager := promrules.NewManager(&promrules.ManagerOptions{
		QueryFunc: promrules.EngineQueryFunc(engine, series), AppendableV2: series, Queryable: series,
		Context: t.Context(), NotifyFunc: func(context.Context, string, ...*promrules.Alert) {}, Logger: slog.New(slog.DiscardHandler), Parser: language,
	})
	groups, errs := manager.LoadGroups(every, labels.EmptyLabels(), "", nil, false, files(t)...)
	require.Empty(t, errs)
	byName := map[string]*promrules.Group{}
	for _, g := range groups {
		byName[g.Name()] = g
		for _, r := range g.AlertingRules() {
			r.SetRestored(true)
		}
	}
	// What is recorded comes before the alerts that read it.
	e := &evaluator{}
	for _, name := range []string{"postrider-ingest-slo", "postrider-delivery-slo", "postrider-flow", "postrider-alerts", "postrider-dependencies"} {
		require.Contains(t, byName, name)
		e.groups = append(e.groups, byName[name])
	}
	require.Len(t, byName, len(e.groups))
	return e
}

// evaluate evaluates all rules at a time.
func (e *evaluator) evaluate(t *testing.T, at time.Time) {
	t.Helper()
	for _, g := range e.groups {
		g.Eval(t.Context(), at)
		for _, r := range g.Rules() {
			require.NoError(t, r.LastError(), r.Name())
		}
	}
}

// firing are the alerts that fire now.
func (e *evaluator) firing() map[string]bool {
	out := map[string]bool{}
	for _, g := range e.groups {
		for _, r := range g.AlertingRules() {
			for _, a := range r.ActiveAlerts() {
				if a.State == promrules.StateFiring {
					out[r.Name()] = true
				}
			}
		}
	}
	return out
}
