-- +goose Up
-- Hashes are in no order, so that each event changed a page of its own in the indexes of them: the larger those were,
-- the more. Ordered by run first, of 32 768 events each, they change the few pages of the last run.
CREATE TABLE numbered (
    id              INTEGER PRIMARY KEY, -- in the order of recording; id >> 15 is the run
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
INSERT INTO numbered SELECT rowid, * FROM events;
DROP TABLE events;
ALTER TABLE numbered RENAME TO events;
CREATE UNIQUE INDEX events_by_account ON events (account_key, event_key, event_id);
CREATE INDEX events_by_type ON events (type_key, event_key);
CREATE INDEX events_by_key ON events (id >> 15, given_hash) WHERE given_key <> '';
CREATE INDEX events_by_trace ON events (id >> 15, trace_hash) WHERE trace_id <> '';
CREATE INDEX events_unmatched ON events (account_key, event_key) WHERE matched_total = 0;

-- +goose Down
CREATE TABLE unnumbered (
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
INSERT INTO unnumbered SELECT account_key, type_key, event_key, given_hash, trace_hash, event_id, account_id, event_type, event_sequence,
    accept_time, route_time, matched_total, unmatched_total, unmatched, given_key, trace_id, expunge_time FROM events;
DROP TABLE events;
ALTER TABLE unnumbered RENAME TO events;
CREATE UNIQUE INDEX events_by_account ON events (account_key, event_key, event_id);
CREATE INDEX events_by_type ON events (type_key, event_key);
CREATE INDEX events_by_key ON events (given_hash) WHERE given_key <> '';
CREATE INDEX events_by_trace ON events (trace_hash) WHERE trace_id <> '';
CREATE INDEX events_unmatched ON events (account_key, event_key) WHERE matched_total = 0;
