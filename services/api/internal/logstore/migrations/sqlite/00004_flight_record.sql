-- +goose Up
-- What an event can be found by, and when its payload was removed on request (0: never).
ALTER TABLE events ADD COLUMN given_key TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN trace_id TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN expunge_time INTEGER NOT NULL DEFAULT 0;
CREATE INDEX events_by_account ON events (account_id, event_id);
CREATE INDEX events_by_type ON events (account_id, event_type, event_id);
CREATE INDEX events_by_key ON events (account_id, given_key, event_id) WHERE given_key <> '';
CREATE INDEX events_by_trace ON events (account_id, trace_id, event_id) WHERE trace_id <> '';
CREATE INDEX events_unmatched ON events (account_id, event_id) WHERE matched_total = 0;

ALTER TABLE deliveries ADD COLUMN last_outcome TEXT NOT NULL DEFAULT '';
DROP INDEX deliveries_by_webhook;
CREATE INDEX deliveries_by_webhook ON deliveries (webhook_id, create_time, delivery_id);
CREATE INDEX deliveries_by_type ON deliveries (account_id, event_type, create_time, delivery_id);
CREATE INDEX deliveries_by_state ON deliveries (account_id, state, create_time, delivery_id) WHERE state <> 'delivered';
CREATE INDEX deliveries_by_status ON deliveries (account_id, last_status_code, create_time, delivery_id)
    WHERE last_outcome <> '' AND last_outcome <> 'succeeded';
CREATE INDEX deliveries_by_outcome ON deliveries (account_id, last_outcome, create_time, delivery_id)
    WHERE last_outcome <> '' AND last_outcome <> 'succeeded';

CREATE INDEX attempts_by_id ON attempts (attempt_id);

-- How a delivery's state changed without an attempt.
CREATE TABLE moves (
    delivery_id       TEXT    NOT NULL,
    move_time         INTEGER NOT NULL,
    series            INTEGER NOT NULL,
    state             TEXT    NOT NULL,
    reason            TEXT    NOT NULL,
    account_id        TEXT    NOT NULL,
    next_attempt_time INTEGER NOT NULL DEFAULT 0, -- 0: none
    PRIMARY KEY (delivery_id, move_time, series, state, reason)
) WITHOUT ROWID;

-- What the log holds, and the place in the journal that must be recorded before it answers: 0 if it
-- answers, -1 if the place is not known yet. A log of before has the empty token: the journal's
-- consumer that has filled it goes on.
CREATE TABLE log (
    token      TEXT    NOT NULL,
    incomplete INTEGER NOT NULL
);
INSERT INTO log SELECT
    CASE WHEN EXISTS (SELECT 1 FROM events) THEN '' ELSE lower(hex(randomblob(8))) END,
    CASE WHEN EXISTS (SELECT 1 FROM events) THEN 0 ELSE -1 END;

-- +goose Down
DROP TABLE log;
DROP TABLE moves;
DROP INDEX attempts_by_id;
DROP INDEX deliveries_by_outcome;
DROP INDEX deliveries_by_status;
DROP INDEX deliveries_by_state;
DROP INDEX deliveries_by_type;
DROP INDEX deliveries_by_webhook;
CREATE INDEX deliveries_by_webhook ON deliveries (webhook_id, create_time);
ALTER TABLE deliveries DROP COLUMN last_outcome;
DROP INDEX events_unmatched;
DROP INDEX events_by_trace;
DROP INDEX events_by_key;
DROP INDEX events_by_type;
DROP INDEX events_by_account;
ALTER TABLE events DROP COLUMN expunge_time;
ALTER TABLE events DROP COLUMN trace_id;
ALTER TABLE events DROP COLUMN given_key;
