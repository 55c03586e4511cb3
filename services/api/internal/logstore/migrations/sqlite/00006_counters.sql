-- +goose Up
-- The ledger and the activity are counted by who writes, once for each transaction: a trigger runs
-- for each row.
DROP TRIGGER ledger_insert;
DROP TRIGGER ledger_update;
DROP TRIGGER activity_insert;

-- Whoever asks for an event names the account, so that one tree finds events by id and lists those of
-- an account.
CREATE TABLE events_anew (
    account_id      TEXT    NOT NULL,
    event_id        TEXT    NOT NULL,
    event_type      TEXT    NOT NULL,
    event_sequence  INTEGER NOT NULL,
    accept_time     INTEGER NOT NULL,
    route_time      INTEGER NOT NULL,
    matched_total   INTEGER NOT NULL,
    unmatched_total INTEGER NOT NULL,
    unmatched       BLOB    NOT NULL, -- postrider.record.v1.Routed with what the rows do not have
    given_key       TEXT    NOT NULL,
    trace_id        TEXT    NOT NULL,
    expunge_time    INTEGER NOT NULL, -- 0: never
    PRIMARY KEY (account_id, event_id)
) WITHOUT ROWID;
INSERT INTO events_anew SELECT account_id, event_id, event_type, event_sequence, accept_time, route_time, matched_total,
    unmatched_total, unmatched, given_key, trace_id, expunge_time FROM events;
DROP TABLE events;
ALTER TABLE events_anew RENAME TO events;
CREATE INDEX events_by_type ON events (account_id, event_type, event_id);
CREATE INDEX events_by_key ON events (account_id, given_key, event_id) WHERE given_key <> '';
CREATE INDEX events_by_trace ON events (account_id, trace_id, event_id) WHERE trace_id <> '';
CREATE INDEX events_unmatched ON events (account_id, event_id) WHERE matched_total = 0;

-- +goose Down
ALTER TABLE events RENAME TO events_anew;
DROP INDEX events_unmatched;
DROP INDEX events_by_trace;
DROP INDEX events_by_key;
DROP INDEX events_by_type;
CREATE TABLE events (
    event_id        TEXT PRIMARY KEY,
    account_id      TEXT    NOT NULL,
    event_type      TEXT    NOT NULL,
    event_sequence  INTEGER NOT NULL,
    accept_time     INTEGER NOT NULL,
    route_time      INTEGER NOT NULL,
    matched_total   INTEGER NOT NULL,
    unmatched_total INTEGER NOT NULL,
    unmatched       BLOB    NOT NULL,
    given_key       TEXT NOT NULL DEFAULT '',
    trace_id        TEXT NOT NULL DEFAULT '',
    expunge_time    INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
INSERT INTO events SELECT event_id, account_id, event_type, event_sequence, accept_time, route_time, matched_total,
    unmatched_total, unmatched, given_key, trace_id, expunge_time FROM events_anew;
DROP TABLE events_anew;
CREATE INDEX events_by_account ON events (account_id, event_id);
CREATE INDEX events_by_type ON events (account_id, event_type, event_id);
CREATE INDEX events_by_key ON events (account_id, given_key, event_id) WHERE given_key <> '';
CREATE INDEX events_by_trace ON events (account_id, trace_id, event_id) WHERE trace_id <> '';
CREATE INDEX events_unmatched ON events (account_id, event_id) WHERE matched_total = 0;

-- +goose StatementBegin
CREATE TRIGGER ledger_insert AFTER INSERT ON deliveries BEGIN
    INSERT INTO ledger VALUES (NEW.account_id, NEW.state, 1) ON CONFLICT DO UPDATE SET count = count + 1;
    INSERT INTO ledger VALUES (NEW.account_id, 'routed', NEW.routed) ON CONFLICT DO UPDATE SET count = count + excluded.count;
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER ledger_update AFTER UPDATE ON deliveries WHEN NEW.state <> OLD.state OR NEW.routed <> OLD.routed BEGIN
    INSERT INTO ledger VALUES (OLD.account_id, OLD.state, -1) ON CONFLICT DO UPDATE SET count = count - 1;
    INSERT INTO ledger VALUES (NEW.account_id, NEW.state, 1) ON CONFLICT DO UPDATE SET count = count + 1;
    INSERT INTO ledger VALUES (NEW.account_id, 'routed', NEW.routed - OLD.routed) ON CONFLICT DO UPDATE SET count = count + excluded.count;
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER activity_insert AFTER INSERT ON attempts WHEN NEW.bucket >= 0 BEGIN
    INSERT INTO activity VALUES (NEW.account_id, NEW.webhook_id, NEW.start_time / 60000000, NEW.good, NEW.bucket, 1)
        ON CONFLICT DO UPDATE SET count = count + 1;
    INSERT INTO activity VALUES (NEW.account_id, '', NEW.start_time / 60000000, NEW.good, NEW.bucket, 1)
        ON CONFLICT DO UPDATE SET count = count + 1;
END;
-- +goose StatementEnd
