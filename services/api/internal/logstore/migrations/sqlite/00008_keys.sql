-- +goose Up
-- What is looked for by a text is found by a number made of it, which an index holds and compares at a fraction of
-- the cost. And most deliveries have one attempt, a moment after they were made: it is kept in the delivery's row.
-- Go makes the numbers, so that a log of before cannot be carried over here: it is dropped, and built again from the
-- journal, as after a reset.
DROP TABLE events;
CREATE TABLE events (
    account_key     INTEGER NOT NULL, -- of account_id
    type_key        INTEGER NOT NULL, -- of account_id and event_type
    event_key       INTEGER NOT NULL, -- of event_id, in the order of the ids
    given_hash      INTEGER NOT NULL, -- of account_id and given_key
    trace_hash      INTEGER NOT NULL, -- of account_id and trace_id
    event_id        TEXT    NOT NULL,
    account_id      TEXT    NOT NULL,
    event_type      TEXT    NOT NULL,
    event_sequence  INTEGER NOT NULL,
    accept_time     INTEGER NOT NULL,
    route_time      INTEGER NOT NULL,
    matched_total   INTEGER NOT NULL,
    unmatched_total INTEGER NOT NULL,
    unmatched       BLOB    NOT NULL, -- postrider.record.v1.Routed with what the rows do not have
    given_key       TEXT    NOT NULL,
    trace_id        TEXT    NOT NULL,
    expunge_time    INTEGER NOT NULL  -- 0: never
);
CREATE UNIQUE INDEX events_by_account ON events (account_key, event_key, event_id);
CREATE INDEX events_by_type ON events (type_key, event_key);
CREATE INDEX events_by_key ON events (given_hash) WHERE given_key <> '';
CREATE INDEX events_by_trace ON events (trace_hash) WHERE trace_id <> '';
CREATE INDEX events_unmatched ON events (account_key, event_key) WHERE matched_total = 0;

DROP TABLE deliveries;
CREATE TABLE deliveries (
    account_key       INTEGER NOT NULL, -- of account_id
    webhook_key       INTEGER NOT NULL, -- of webhook_id
    type_key          INTEGER NOT NULL, -- of account_id and event_type
    event_key         INTEGER NOT NULL, -- of event_id, in the order of the ids
    delivery_id       TEXT PRIMARY KEY,
    account_id        TEXT    NOT NULL,
    event_id          TEXT    NOT NULL,
    event_type        TEXT    NOT NULL,
    webhook_id        TEXT    NOT NULL,
    replay_id         TEXT    NOT NULL,
    series            INTEGER NOT NULL,
    state             TEXT    NOT NULL,
    state_rank        INTEGER NOT NULL,
    state_time        INTEGER NOT NULL,
    reason            TEXT    NOT NULL,
    next_attempt_time INTEGER NOT NULL, -- 0: none
    create_time       INTEGER NOT NULL,
    attempt_count     INTEGER NOT NULL,
    attempt_time      INTEGER NOT NULL,
    last_status_code  INTEGER NOT NULL,
    last_error_class  TEXT    NOT NULL,
    last_outcome      TEXT    NOT NULL,
    routed            INTEGER NOT NULL, -- 1 if an entry of routing named it
    early_ids         TEXT    NOT NULL, -- each with a space behind it
    early             BLOB    NOT NULL  -- their records, fields of a message
);
CREATE INDEX deliveries_by_time ON deliveries (account_key, create_time);
CREATE INDEX deliveries_by_webhook ON deliveries (webhook_key, create_time);
CREATE INDEX deliveries_by_type ON deliveries (type_key, create_time);
CREATE INDEX deliveries_by_event ON deliveries (event_key);
CREATE INDEX deliveries_by_state ON deliveries (account_id, state, create_time, delivery_id) WHERE state <> 'delivered';
CREATE INDEX deliveries_by_status ON deliveries (account_id, last_status_code, create_time, delivery_id)
    WHERE last_status_code NOT IN (0, 200);
CREATE INDEX deliveries_by_outcome ON deliveries (account_id, last_outcome, create_time, delivery_id)
    WHERE last_outcome <> '' AND last_outcome <> 'succeeded';

-- +goose StatementBegin
CREATE TRIGGER ledger_delete AFTER DELETE ON deliveries BEGIN
    UPDATE ledger SET count = count - 1 WHERE account_id = OLD.account_id AND term = OLD.state;
    UPDATE ledger SET count = count - OLD.routed WHERE account_id = OLD.account_id AND term = 'routed';
END;
-- +goose StatementEnd

DELETE FROM attempts;
DELETE FROM moves;
DELETE FROM ledger;
DELETE FROM activity;
UPDATE log SET token = lower(hex(randomblob(8))), incomplete = -1;

-- +goose Down
-- The other way round it is dropped too.
DROP TABLE events;
CREATE TABLE events (
    account_id      TEXT    NOT NULL,
    event_id        TEXT    NOT NULL,
    event_type      TEXT    NOT NULL,
    event_sequence  INTEGER NOT NULL,
    accept_time     INTEGER NOT NULL,
    route_time      INTEGER NOT NULL,
    matched_total   INTEGER NOT NULL,
    unmatched_total INTEGER NOT NULL,
    unmatched       BLOB    NOT NULL,
    given_key       TEXT    NOT NULL,
    trace_id        TEXT    NOT NULL,
    expunge_time    INTEGER NOT NULL,
    PRIMARY KEY (account_id, event_id)
) WITHOUT ROWID;
CREATE INDEX events_by_type ON events (account_id, event_type, event_id);
CREATE INDEX events_by_key ON events (account_id, given_key, event_id) WHERE given_key <> '';
CREATE INDEX events_by_trace ON events (account_id, trace_id, event_id) WHERE trace_id <> '';
CREATE INDEX events_unmatched ON events (account_id, event_id) WHERE matched_total = 0;
DROP INDEX deliveries_by_time;
DROP INDEX deliveries_by_webhook;
DROP INDEX deliveries_by_type;
DROP INDEX deliveries_by_event;
DELETE FROM deliveries;
ALTER TABLE deliveries DROP COLUMN early;
ALTER TABLE deliveries DROP COLUMN early_ids;
ALTER TABLE deliveries DROP COLUMN event_key;
ALTER TABLE deliveries DROP COLUMN type_key;
ALTER TABLE deliveries DROP COLUMN webhook_key;
ALTER TABLE deliveries DROP COLUMN account_key;
CREATE INDEX deliveries_by_time ON deliveries (account_id, create_time, delivery_id);
CREATE INDEX deliveries_by_event ON deliveries (event_id);
CREATE INDEX deliveries_by_webhook ON deliveries (webhook_id, create_time, delivery_id);
CREATE INDEX deliveries_by_type ON deliveries (account_id, event_type, create_time, delivery_id);
DELETE FROM attempts;
DELETE FROM moves;
DELETE FROM ledger;
DELETE FROM activity;
UPDATE log SET token = lower(hex(randomblob(8))), incomplete = -1;
