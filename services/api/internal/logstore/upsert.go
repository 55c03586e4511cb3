package logstore

import "strings"

// Columns in the order in which both stores write them.
const (
	eventInsert = `account_key, type_key, event_key, given_hash, trace_hash, event_id, account_id, event_type, event_sequence, accept_time, route_time, matched_total,
    unmatched_total, unmatched, given_key, trace_id, expunge_time`
	deliveryInsert = `account_key, webhook_key, type_key, event_key, delivery_id, account_id, event_id, event_type, webhook_id, replay_id, series, state, state_rank,
    state_time, reason, next_attempt_time, create_time, attempt_count, attempt_time, last_status_code, last_error_class,
    last_outcome, routed`
	attemptInsert = `attempt_id, delivery_id, account_id, start_time, record, webhook_id, good, bucket`
	moveInsert    = `delivery_id, account_id, move_time, series, state, reason, next_attempt_time`
)

// eventMerge merges what is said into an event's row as eventFact.merge merges two facts.
const eventMerge = ` DO UPDATE SET
    event_sequence = GREATEST(events.event_sequence, excluded.event_sequence),
    accept_time = GREATEST(events.accept_time, excluded.accept_time),
    route_time = CASE WHEN events.route_time = 0 OR excluded.route_time <> 0 AND excluded.route_time < events.route_time
        THEN excluded.route_time ELSE events.route_time END,
    matched_total = GREATEST(events.matched_total, excluded.matched_total),
    unmatched_total = GREATEST(events.unmatched_total, excluded.unmatched_total),
    unmatched = CASE WHEN (length(excluded.unmatched), excluded.unmatched) > (length(events.unmatched), events.unmatched)
        THEN excluded.unmatched ELSE events.unmatched END,
    given_key = GREATEST(events.given_key, excluded.given_key),
    given_hash = CASE WHEN excluded.given_key > events.given_key THEN excluded.given_hash ELSE events.given_hash END,
    trace_id = GREATEST(events.trace_id, excluded.trace_id),
    trace_hash = CASE WHEN excluded.trace_id > events.trace_id THEN excluded.trace_hash ELSE events.trace_hash END,
    expunge_time = GREATEST(events.expunge_time, excluded.expunge_time)`

// newerFact holds if what is said counts against what is known: by series, then rank, then time. The
// state itself is last, so that of two at one instant the same one stands in every order.
const newerFact = `((excluded.series, excluded.state_rank, excluded.state_time, excluded.state)
        >= (deliveries.series, deliveries.state_rank, deliveries.state_time, deliveries.state))`

// deliveryMerge merges what is said into a delivery's row as fact.merge merges two facts.
var deliveryMerge = strings.NewReplacer("NEWER", newerFact, "LATER", `(excluded.attempt_time > deliveries.attempt_time)`).Replace(` DO UPDATE SET
    state = CASE WHEN NEWER THEN excluded.state ELSE deliveries.state END,
    reason = CASE WHEN NEWER THEN excluded.reason ELSE deliveries.reason END,
    next_attempt_time = CASE WHEN NEWER THEN excluded.next_attempt_time ELSE deliveries.next_attempt_time END,
    state_time = CASE WHEN NEWER THEN excluded.state_time ELSE deliveries.state_time END,
    state_rank = CASE WHEN NEWER THEN excluded.state_rank ELSE deliveries.state_rank END,
    create_time = LEAST(deliveries.create_time, excluded.create_time),
    replay_id = CASE WHEN deliveries.replay_id = '' THEN excluded.replay_id ELSE deliveries.replay_id END,
    attempt_count = CASE WHEN excluded.series > deliveries.series THEN excluded.attempt_count
        WHEN excluded.series = deliveries.series THEN GREATEST(deliveries.attempt_count, excluded.attempt_count)
        ELSE deliveries.attempt_count END,
    series = GREATEST(deliveries.series, excluded.series),
    routed = GREATEST(deliveries.routed, excluded.routed),
    last_status_code = CASE WHEN LATER THEN excluded.last_status_code ELSE deliveries.last_status_code END,
    last_error_class = CASE WHEN LATER THEN excluded.last_error_class ELSE deliveries.last_error_class END,
    last_outcome = CASE WHEN LATER THEN excluded.last_outcome ELSE deliveries.last_outcome END,
    attempt_time = GREATEST(deliveries.attempt_time, excluded.attempt_time)`)

// earlyMerge adds an early attempt that the row has not. There is one in what is said, at most.
var earlyMerge = strings.ReplaceAll(`,
    early_ids = CASE WHEN NEW THEN deliveries.early_ids || excluded.early_ids ELSE deliveries.early_ids END,
    early = CASE WHEN NEW THEN deliveries.early || excluded.early ELSE deliveries.early END,
    early_start = CASE WHEN NEW THEN excluded.early_start ELSE deliveries.early_start END,
    early_good = CASE WHEN NEW THEN excluded.early_good ELSE deliveries.early_good END,
    early_bucket = CASE WHEN NEW THEN excluded.early_bucket ELSE deliveries.early_bucket END`,
	"NEW", `(excluded.early_ids <> '' AND strpos(deliveries.early_ids, excluded.early_ids) = 0)`)

func (f *eventFact) values() []any {
	k := f.keys()
	return []any{
		k.account, k.eventType, k.event, k.given, k.trace,
		f.id, f.account, f.eventType, f.sequence, f.accept, f.route, f.matched, f.unmatched, f.bytes(), f.key, f.trace, f.expunge,
	}
}

// eventKeys are the numbers that an event is found by.
type eventKeys struct {
	account, eventType  int32
	event, given, trace int64
}

func (f *eventFact) keys() eventKeys {
	return eventKeys{textKey(f.account), textKey(f.account, f.eventType), eventKey(f.id), longKey(f.account, f.key), longKey(f.account, f.trace)}
}

// bytes is the record, never NULL.
func (f *eventFact) bytes() []byte {
	if f.record == nil {
		return []byte{}
	}
	return f.record
}

func (f *fact) values() []any {
	return []any{
		textKey(f.account), textKey(f.webhookID), textKey(f.account, f.eventType), eventKey(f.event),
		f.deliveryID, f.account, f.event, f.eventType, f.webhookID, f.replayID, f.series, string(f.state), f.state.Rank(),
		f.stateTime, f.reason, f.next, f.create, f.attempts, f.attemptTime, f.status, f.class, f.outcome, f.routed,
	}
}

func (f *fact) earlyValues() []any {
	if f.early == nil {
		return []any{"", []byte{}}
	}
	return []any{earlyID(f.early.id), f.early.frame()}
}

func (f *attemptFact) values() []any {
	return []any{f.id, f.delivery, f.account, f.start, f.record, f.webhook, f.good, f.bucket}
}

func (f *moveFact) values() []any {
	return []any{f.delivery, f.account, f.time, f.series, string(f.state), f.reason, f.next}
}
