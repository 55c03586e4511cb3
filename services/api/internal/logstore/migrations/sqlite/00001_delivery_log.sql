-- +goose Up
CREATE TABLE events (
    event_id        TEXT PRIMARY KEY,
    account_id      TEXT    NOT NULL,
    event_type      TEXT    NOT NULL,
    event_sequence  INTEGER NOT NULL,
    accept_time     INTEGER NOT NULL, -- Unix microseconds, as all times here
    route_time      INTEGER NOT NULL,
    matched_total   INTEGER NOT NULL,
    unmatched_total INTEGER NOT NULL,
    unmatched       BLOB    NOT NULL -- postrider.record.v1.Routed, of which only the field unmatched is set
) WITHOUT ROWID;

-- Rows lie in the order of their arrival: what is written together shares pages. The ids of deliveries
-- are random, so only their index is written all over.
CREATE TABLE deliveries (
    delivery_id       TEXT PRIMARY KEY,
    account_id        TEXT    NOT NULL,
    event_id          TEXT    NOT NULL,
    event_type        TEXT    NOT NULL,
    webhook_id        TEXT    NOT NULL,
    replay_id         TEXT    NOT NULL DEFAULT '',
    state             TEXT    NOT NULL,
    state_rank        INTEGER NOT NULL,
    state_time        INTEGER NOT NULL,
    reason            TEXT    NOT NULL DEFAULT '',
    next_attempt_time INTEGER NOT NULL DEFAULT 0, -- 0: none
    create_time       INTEGER NOT NULL,
    attempt_count     INTEGER NOT NULL DEFAULT 0,
    attempt_time      INTEGER NOT NULL DEFAULT 0,
    last_status_code  INTEGER NOT NULL DEFAULT 0,
    last_error_class  TEXT    NOT NULL DEFAULT ''
);
CREATE INDEX deliveries_by_time ON deliveries (account_id, create_time, delivery_id);
CREATE INDEX deliveries_by_event ON deliveries (event_id);
CREATE INDEX deliveries_by_webhook ON deliveries (webhook_id, create_time);

CREATE TABLE attempts (
    delivery_id TEXT    NOT NULL,
    attempt_id  TEXT    NOT NULL,
    account_id  TEXT    NOT NULL,
    start_time  INTEGER NOT NULL,
    record      BLOB    NOT NULL, -- postrider.record.v1.Attempted
    UNIQUE (delivery_id, attempt_id)
);

-- +goose Down
DROP TABLE attempts;
DROP TABLE deliveries;
DROP TABLE events;
