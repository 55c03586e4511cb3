// Package alerts holds what watches Postrider to what Postrider is: the rules and dashboards of
// deploy parse, name metrics that exist, and have runbooks; alerts fire when they should. It is a
// module of its own because Prometheus brings a thousand packages.
package alerts

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Dashboard is a page of Grafana.
type Dashboard struct {
	Name, Title string // Name is that of its file, and of its UID with the prefix "postrider-"
	Rows        []Row
}

// Row is a heading and the panels below it.
type Row struct {
	Title  string
	Panels []Panel
}

// Panel shows the result of queries over time, or as one number.
type Panel struct {
	Title   string
	Help    string
	Unit    string // of Grafana: s, reqps, percentunit, bytes, short
	Number  bool
	Queries []Query
}

// Query is an expression and how its results are named.
type Query struct {
	Expr   string
	Legend string
}

// quantiles are the lines of a histogram that belongs on a dashboard.
func quantiles(metric, by string) []Query {
	group, legend := "le", ""
	if by != "" {
		group, legend = "le, "+by, " {{"+by+"}}"
	}
	var out []Query
	for _, q := range []string{"0.5", "0.99", "0.999"} {
		out = append(out, Query{
			fmt.Sprintf("histogram_quantile(%s, sum by (%s) (rate(%s_bucket[$__rate_interval])))", q, group, metric), "p" + strings.TrimPrefix(q, "0.") + legend,
		})
	}
	return out
}

func one(expr, legend string) []Query { return []Query{{expr, legend}} }

// rate is the sum of a counter's rates, by labels.
func rate(metric, by string) []Query {
	if by == "" {
		return one(fmt.Sprintf("sum(rate(%s[$__rate_interval]))", metric), strings.TrimSuffix(metric, "_total"))
	}
	return one(fmt.Sprintf("sum by (%s) (rate(%s[$__rate_interval]))", by, metric), "{{"+strings.ReplaceAll(by, ", ", "}} {{")+"}}")
}

// Dashboards are the five pages.
func Dashboards() []Dashboard {
	return []Dashboard{overview(), ingest(), delivery(), retries(), dependencies()}
}

func overview() Dashboard {
	return Dashboard{"overview", "Postrider: overview", []Row{
		{"Objectives (28 days of budget; 1 is all of it)", []Panel{
			{"Ingest availability: budget burnt in 3 d", "Share of refusals through our fault over the objective's 0.05 %.", "percentunit", true, one("service:postrider_ingest_errors:ratio_rate3d / 0.0005", "")},
			{"Accepted within 100 ms (1 h)", "", "percentunit", true, one("1 - service:postrider_ingest_slow:ratio_rate1h", "")},
			{"First attempt within 2 s (1 h)", "", "percentunit", true, one("1 - class:postrider_first_attempt_late:ratio_rate1h", "{{account_class}}")},
			{"Retries within 5 s of their time (1 h)", "", "percentunit", true, one("1 - service:postrider_retry_late:ratio_rate1h", "")},
		}},
		{"Flow: ingest, stream, router, dispatcher, receivers", []Panel{
			{"Events by verdict", "", "reqps", false, rate("postrider_ingest_events_total", "outcome")},
			{"Events routed", "", "reqps", false, rate("postrider_router_events_total", "account_class")},
			{"Attempts by outcome", "", "reqps", false, rate("postrider_delivery_attempts_total", "outcome")},
			{"Messages waiting", "Not acknowledged, by consumer.", "short", false, one("sum by (stream, consumer) (stream:postrider_backlog_messages:max)", "{{stream}} {{consumer}}")},
			{"Oldest message waiting", "", "s", false, one("max by (stream, consumer) (stream:postrider_backlog_oldest_age_seconds:max)", "{{stream}} {{consumer}}")},
			{"From acceptance to the first attempt", "", "s", false, quantiles("postrider_delivery_first_attempt_delay_seconds", "")},
		}},
		{"The ledger", []Panel{
			{"Difference", "0 when nothing moves. Away from 0 for half an hour: something was lost.", "short", true, one("max by (account_class) (postrider_ledger_difference)", "{{account_class}}")},
			{"Deliveries by where they are", "", "short", false, one("max by (term) (sum by (instance, term) (postrider_ledger_deliveries{term!~\"routed|delivered\"}))", "{{term}}")},
			{"Not recorded yet, not routed yet", "", "short", false, []Query{{"max(postrider_ledger_unrecorded)", "unrecorded"}, {"max(postrider_ledger_unrouted)", "unrouted"}}},
		}},
		{"Processes", []Panel{
			{"Versions", "", "short", false, one("count by (version) (postrider_build_info)", "{{version}}")},
			{"API requests by status", "", "reqps", false, rate("http_server_request_duration_seconds_count", "http_response_status_code")},
			{"gRPC calls by status", "", "reqps", false, rate("rpc_server_call_duration_seconds_count", "rpc_response_status_code")},
			{"Stopping for", "", "s", false, one("max by (service) (postrider_shutdown_duration_seconds)", "{{service}}")},
		}},
	}}
}

func ingest() Dashboard {
	return Dashboard{"ingest", "Postrider: ingest", []Row{
		{"Producers", []Panel{
			{"Events by account class", "", "reqps", false, rate("postrider_ingest_events_total", "account_class")},
			{"Rejected by reason", "", "reqps", false, one(`sum by (reason) (rate(postrider_ingest_events_total{outcome="rejected"}[$__rate_interval]))`, "{{reason}}")},
			{"Duplicates", "", "reqps", false, one(`sum(rate(postrider_ingest_events_total{outcome="duplicate"}[$__rate_interval]))`, "duplicates")},
			{"Time to the verdict", "Exemplars lead to traces.", "s", false, quantiles("postrider_ingest_acceptance_duration_seconds", "")},
			{"HTTP by status", "", "reqps", false, one(`sum by (http_response_status_code) (rate(http_server_request_duration_seconds_count{http_route="/v1/events"}[$__rate_interval]))`, "{{http_response_status_code}}")},
			{"HTTP duration", "", "s", false, quantiles("http_server_request_duration_seconds", "")},
		}},
		{"Under way", []Panel{
			{"Events", "", "short", false, one("sum(postrider_ingest_inflight)", "events")},
			{"Bytes", "", "bytes", false, one("sum(postrider_ingest_inflight_bytes)", "bytes")},
			{"Back-pressure", "1 while events wait for room.", "short", false, one("max by (instance) (postrider_ingest_backpressure_active)", "{{instance}}")},
		}},
		{"Deduplication", []Panel{
			{"Claims by answer", "", "reqps", false, rate("postrider_ingest_dedup_claims_total", "outcome")},
			{"Window degraded", "", "short", false, one("max by (instance) (postrider_ingest_dedup_degraded)", "{{instance}}")},
			{"Claims not ended", "", "reqps", false, rate("postrider_ingest_dedup_end_failures_total", "")},
		}},
		{"Routing", []Panel{
			{"Deliveries for each event", "", "short", false, quantiles("postrider_router_fanout", "")},
			{"From acceptance to routing", "", "s", false, quantiles("postrider_router_delay_seconds", "")},
			{"Events that no webhook wanted", "", "reqps", false, rate("postrider_router_unmatched_total", "account_class")},
			{"Sent again", "Parts of events that a store refused.", "reqps", false, rate("postrider_router_repeats_total", "")},
		}},
	}}
}

func delivery() Dashboard {
	return Dashboard{"delivery", "Postrider: delivery", []Row{
		{"Attempts", []Panel{
			{"By outcome", "", "reqps", false, rate("postrider_delivery_attempts_total", "outcome")},
			{"Failures by class", "", "reqps", false, one(`sum by (error_class) (rate(postrider_delivery_attempts_total{outcome!="succeeded"}[$__rate_interval]))`, "{{error_class}}")},
			{"First attempts and retries", "", "reqps", false, rate("postrider_delivery_attempts_total", "attempt")},
			{"Duration", "", "s", false, quantiles("postrider_delivery_attempt_duration_seconds", "")},
			{"From acceptance to the first attempt, by class", "", "s", false, quantiles("postrider_delivery_first_attempt_delay_seconds", "account_class")},
			{"From acceptance to delivery", "", "s", false, quantiles("postrider_delivery_total_duration_seconds", "")},
		}},
		{"Room", []Panel{
			{"In flight and slots", "", "short", false, []Query{{"sum(postrider_delivery_inflight)", "in flight"}, {"sum(postrider_delivery_concurrency_limit)", "slots"}}},
			{"Taken and not acknowledged, obtained and not stored", "", "short", false, []Query{{"sum(postrider_dispatcher_unsettled)", "unsettled"}, {"sum(postrider_dispatcher_storing)", "storing"}}},
			{"Exchanges over open connections", "", "percentunit", false, one(`sum(rate(postrider_dispatcher_connections_total{reused="true"}[$__rate_interval])) / sum(rate(postrider_dispatcher_connections_total[$__rate_interval]))`, "reused")},
			{"Shards held", "", "short", false, []Query{{"postrider_dispatcher_shards", "{{instance}}"}, {"max(postrider_streams_shards)", "all"}}},
			{"Parked without an attempt", "", "reqps", false, rate("postrider_delivery_parked_total", "reason")},
			{"Held", "", "reqps", false, rate("postrider_delivery_held_total", "reason")},
		}},
		{"Webhooks", []Panel{
			{"By state", "", "short", false, one("max by (state) (postrider_webhooks)", "{{state}}")},
			{"Breakers", "", "short", false, one("sum by (state) (postrider_circuit_webhooks)", "{{state}}")},
			{"Breakers' changes", "", "reqps", false, rate("postrider_circuit_transitions_total", "state")},
			{"Disabled by a rule", "", "reqps", false, rate("postrider_webhook_transitions_total", "cause")},
			{"Forbidden addresses", "", "reqps", false, rate("postrider_ssrf_blocked_total", "")},
			{"Unfinished when a dispatcher ended", "", "short", false, one("sum(increase(postrider_shutdown_unfinished_total[1h]))", "deliveries")},
		}},
	}}
}

func retries() Dashboard {
	return Dashboard{"retries", "Postrider: retries and scheduler", []Row{
		{"Punctuality", []Panel{
			{"Overdue", "How long the earliest due retry has been due.", "s", false, one("max(postrider_scheduler_due_lag_seconds)", "lag")},
			{"From due to released", "", "s", false, quantiles("postrider_scheduler_release_delay_seconds", "")},
			{"Releases by result", "", "reqps", false, rate("postrider_scheduler_releases_total", "result")},
			{"Scheduled by verdict", "", "reqps", false, rate("postrider_scheduler_scheduled_total", "verdict")},
		}},
		{"Index and records", []Panel{
			{"Index and truth", "", "short", false, []Query{{"max(postrider_retry_index_entries)", "index"}, {"max(postrider_retry_truth_messages)", "records"}}},
			{"Divergence", "", "short", false, one("max(postrider_retry_index_divergence)", "index less records")},
			{"Since the last comparison", "", "s", false, one("time() - max(postrider_retry_index_reconcile_timestamp_seconds)", "age")},
			{"Put back by sweeps", "", "reqps", false, rate("postrider_retry_index_missing_total", "")},
			{"Claims without an answer", "", "reqps", false, rate("postrider_scheduler_claim_failures_total", "")},
			{"Rebuilding", "", "short", false, []Query{{"max(postrider_scheduler_rebuild_running)", "running"}, {"max(postrider_scheduler_rebuild_retries)", "retries"}}},
		}},
		{"Held and dead", []Panel{
			{"Held and resumed", "", "reqps", false, []Query{{"sum(rate(postrider_scheduler_held_total[$__rate_interval]))", "held"}, {"sum(rate(postrider_scheduler_resumed_total[$__rate_interval]))", "resumed"}}},
			{"Dead letters by reason", "", "reqps", false, rate("postrider_dead_letters_total", "reason")},
			{"Dead letters kept", "", "short", false, one(`max by (account_class) (postrider_ledger_deliveries{term="dead"})`, "{{account_class}}")},
			{"Handed over by", "", "reqps", false, rate("postrider_dispatcher_handovers_total", "by")},
		}},
	}}
}

func dependencies() Dashboard {
	return Dashboard{"dependencies", "Postrider: dependencies", []Row{
		{"NATS, as the services see it", []Panel{
			{"Streams: share of their limit", "", "percentunit", false, one("max by (stream) (stream:postrider_stream_used:ratio)", "{{stream}}")},
			{"Streams: size", "", "bytes", false, one("max by (stream) (postrider_stream_size_bytes)", "{{stream}}")},
			{"Given more than once", "", "short", false, one("max by (stream) (postrider_backlog_redelivered)", "{{stream}}")},
			{"What was found about messages that came again", "", "reqps", false, rate("postrider_redelivered_total", "found")},
			{"Acknowledgements that failed", "", "reqps", false, rate("postrider_ack_failures_total", "")},
			{"Outcomes that a store did not take at once", "", "reqps", false, rate("postrider_dispatcher_store_repeats_total", "what")},
		}},
		{"Redis, as the services see it", []Panel{
			{"Deduplication degraded", "", "short", false, one("max(postrider_ingest_dedup_degraded)", "degraded")},
			{"Claims without an answer", "", "reqps", false, rate("postrider_scheduler_claim_failures_total", "")},
			{"Parts of the retry index that were lost", "16 parts: all of them when Redis is flushed or comes back empty.", "short", false, one("sum(increase(postrider_scheduler_index_losses_total[$__rate_interval]))", "lost")},
			{"Records stored while the index was away", "", "reqps", false, rate("postrider_scheduler_unindexed_total", "")},
		}},
		{"The delivery log", []Panel{
			{"Entries recorded", "", "reqps", false, rate("postrider_recorder_entries_total", "")},
			{"Behind the journal", "", "s", false, one(`max by (consumer) (stream:postrider_backlog_oldest_age_seconds:max{stream="JOURNAL"})`, "{{consumer}}")},
		}},
		{"Go", []Panel{
			{"CPU", "", "short", false, one("sum by (service) (rate(process_cpu_seconds_total[$__rate_interval]))", "{{service}}")},
			{"Memory", "", "bytes", false, one("max by (service) (process_resident_memory_bytes)", "{{service}}")},
			{"Goroutines", "", "short", false, one("max by (service) (go_goroutines)", "{{service}}")},
			{"Files open", "", "percentunit", false, one("max by (service) (process_open_fds / process_max_fds)", "{{service}}")},
		}},
	}}
}

// Sizes of panels, in Grafana's grid of 24 columns.
const (
	columns = 24
	width   = 8
	height  = 7
	small   = 6
)

// JSON is the dashboard as Grafana reads it.
func (d Dashboard) JSON() ([]byte, error) {
	type object = map[string]any
	source := object{"type": "prometheus", "uid": "${datasource}"}
	var panels []object
	id, y := 0, 0
	next := func() int { id++; return id }
	for _, row := range d.Rows {
		panels = append(panels, object{"id": next(), "type": "row", "title": row.Title, "gridPos": object{"h": 1, "w": columns, "x": 0, "y": y}})
		y++
		x := 0
		for _, p := range row.Panels {
			w, kind := width, "timeseries"
			if p.Number {
				w, kind = small, "stat"
			}
			if x+w > columns {
				x, y = 0, y+height
			}
			var targets []object
			for i, q := range p.Queries {
				targets = append(targets, object{
					"refId": string(rune('A' + i)), "expr": q.Expr, "legendFormat": q.Legend, "datasource": source, "exemplar": !p.Number,
				})
			}
			panels = append(panels, object{
				"id": next(), "type": kind, "title": p.Title, "description": p.Help, "datasource": source, "targets": targets,
				"gridPos":     object{"h": height, "w": w, "x": x, "y": y},
				"fieldConfig": object{"defaults": object{"unit": p.Unit, "min": 0}, "overrides": []object{}},
				"options":     object{"legend": object{"displayMode": "list", "placement": "bottom", "showLegend": !p.Number}},
			})
			x += w
		}
		y += height
	}
	out, err := json.MarshalIndent(object{
		"uid": "postrider-" + d.Name, "title": d.Title, "tags": []string{"postrider"}, "schemaVersion": 41, "version": 1, "editable": false,
		"refresh": "30s", "time": object{"from": "now-6h", "to": "now"}, "timezone": "utc", "panels": panels,
		"templating": object{"list": []object{{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": object{"value": "prometheus"}}}},
	}, "", "  ")
	return append(out, '\n'), err
}
