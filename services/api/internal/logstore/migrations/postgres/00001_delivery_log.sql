-- +goose Up
-- Partitions are made as they are needed, one for each day of an event's acceptance, which its id
-- says: so each entry about a delivery leads to the same row, and a day that all accounts have expired
-- is dropped whole. Day 0 is that of ids that say none. Ids compare by their bytes.
CREATE TABLE events (
    event_day       INTEGER          NOT NULL, -- days since 1970
    event_id        TEXT COLLATE "C" NOT NULL,
    account_id      TEXT COLLATE "C" NOT NULL,
    event_type      TEXT COLLATE "C" NOT NULL,
    event_sequence  BIGINT           NOT NULL,
    accept_time     BIGINT           NOT NULL, -- Unix microseconds, as all times here
    route_time      BIGINT           NOT NULL,
    matched_total   INTEGER          NOT NULL,
    unmatched_total INTEGER          NOT NULL,
    unmatched       BYTEA            NOT NULL, -- postrider.record.v1.Routed with what the rows do not have
    given_key       TEXT COLLATE "C" NOT NULL,
    trace_id        TEXT COLLATE "C" NOT NULL,
    expunge_time    BIGINT           NOT NULL, -- 0: never
    PRIMARY KEY (event_id, event_day)
) PARTITION BY LIST (event_day);
CREATE INDEX events_by_account ON events (account_id, event_id);
CREATE INDEX events_by_type ON events (account_id, event_type, event_id);
CREATE INDEX events_by_key ON events (account_id, given_key, event_id) WHERE given_key <> '';
CREATE INDEX events_by_trace ON events (account_id, trace_id, event_id) WHERE trace_id <> '';
CREATE INDEX events_unmatched ON events (account_id, event_id) WHERE matched_total = 0;

CREATE TABLE deliveries (
    event_day         INTEGER          NOT NULL,
    delivery_id       TEXT COLLATE "C" NOT NULL,
    account_id        TEXT COLLATE "C" NOT NULL,
    event_id          TEXT COLLATE "C" NOT NULL,
    event_type        TEXT COLLATE "C" NOT NULL,
    webhook_id        TEXT COLLATE "C" NOT NULL,
    replay_id         TEXT COLLATE "C" NOT NULL,
    series            INTEGER          NOT NULL,
    state             TEXT COLLATE "C" NOT NULL,
    state_rank        INTEGER          NOT NULL,
    state_time        BIGINT           NOT NULL,
    reason            TEXT             NOT NULL,
    next_attempt_time BIGINT           NOT NULL, -- 0: none
    create_time       BIGINT           NOT NULL,
    attempt_count     INTEGER          NOT NULL,
    attempt_time      BIGINT           NOT NULL,
    last_status_code  INTEGER          NOT NULL,
    last_error_class  TEXT             NOT NULL,
    last_outcome      TEXT COLLATE "C" NOT NULL,
    routed            INTEGER          NOT NULL, -- 1 if an entry of routing named it
    PRIMARY KEY (delivery_id, event_day)
) PARTITION BY LIST (event_day);
CREATE INDEX deliveries_by_time ON deliveries (account_id, create_time, delivery_id);
CREATE INDEX deliveries_by_event ON deliveries (event_id);
CREATE INDEX deliveries_by_webhook ON deliveries (webhook_id, create_time, delivery_id);
CREATE INDEX deliveries_by_type ON deliveries (account_id, event_type, create_time, delivery_id);
CREATE INDEX deliveries_by_state ON deliveries (account_id, state, create_time, delivery_id) WHERE state <> 'delivered';
CREATE INDEX deliveries_by_status ON deliveries (account_id, last_status_code, create_time, delivery_id)
    WHERE last_outcome <> '' AND last_outcome <> 'succeeded';
CREATE INDEX deliveries_by_outcome ON deliveries (account_id, last_outcome, create_time, delivery_id)
    WHERE last_outcome <> '' AND last_outcome <> 'succeeded';

CREATE TABLE attempts (
    event_day   INTEGER          NOT NULL,
    attempt_id  TEXT COLLATE "C" NOT NULL,
    delivery_id TEXT COLLATE "C" NOT NULL,
    account_id  TEXT COLLATE "C" NOT NULL,
    start_time  BIGINT           NOT NULL,
    record      BYTEA            NOT NULL, -- postrider.record.v1.Attempted
    PRIMARY KEY (attempt_id, delivery_id, event_day)
) PARTITION BY LIST (event_day);
CREATE INDEX attempts_by_delivery ON attempts (delivery_id, start_time, attempt_id);

-- How a delivery's state changed without an attempt.
CREATE TABLE moves (
    event_day         INTEGER          NOT NULL,
    delivery_id       TEXT COLLATE "C" NOT NULL,
    account_id        TEXT COLLATE "C" NOT NULL,
    move_time         BIGINT           NOT NULL,
    series            INTEGER          NOT NULL,
    state             TEXT COLLATE "C" NOT NULL,
    reason            TEXT COLLATE "C" NOT NULL,
    next_attempt_time BIGINT           NOT NULL, -- 0: none
    PRIMARY KEY (delivery_id, move_time, series, state, reason, event_day)
) PARTITION BY LIST (event_day);

-- How many deliveries of an account are in each state, and how many are routed: the sum of what each
-- transaction has changed. Nobody updates a row, so that those who write do not wait for each other;
-- Prune adds rows up.
CREATE TABLE ledger (
    account_id TEXT COLLATE "C" NOT NULL,
    term       TEXT COLLATE "C" NOT NULL, -- a state, or "routed"
    count      BIGINT           NOT NULL
);

-- +goose StatementBegin
CREATE FUNCTION ledger_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger
        SELECT account_id, state, COUNT(*) FROM added GROUP BY account_id, state
        UNION ALL
        SELECT account_id, 'routed', SUM(routed) FROM added GROUP BY account_id HAVING SUM(routed) <> 0;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION ledger_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger
        SELECT account_id, term, SUM(n) FROM (
            SELECT account_id, state AS term, 1 AS n FROM added
            UNION ALL SELECT account_id, state, -1 FROM removed
            UNION ALL SELECT account_id, 'routed', routed FROM added
            UNION ALL SELECT account_id, 'routed', -routed FROM removed
        ) AS changes GROUP BY account_id, term HAVING SUM(n) <> 0;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION ledger_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger
        SELECT account_id, state, -COUNT(*) FROM removed GROUP BY account_id, state
        UNION ALL
        SELECT account_id, 'routed', -SUM(routed) FROM removed GROUP BY account_id HAVING SUM(routed) <> 0;
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER ledger_insert AFTER INSERT ON deliveries
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION ledger_insert();
CREATE TRIGGER ledger_update AFTER UPDATE ON deliveries
    REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION ledger_update();
CREATE TRIGGER ledger_delete AFTER DELETE ON deliveries
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION ledger_delete();

-- What the log holds, and the place in the journal that must be recorded before it answers: 0 if it
-- answers, -1 if the place is not known yet.
CREATE TABLE log (
    token      TEXT   NOT NULL,
    incomplete BIGINT NOT NULL
);
INSERT INTO log VALUES (replace(gen_random_uuid()::text, '-', ''), -1);

-- +goose Down
DROP TABLE log;
DROP TABLE ledger;
DROP TABLE moves;
DROP TABLE attempts;
DROP TABLE deliveries;
DROP TABLE events;
DROP FUNCTION ledger_delete;
DROP FUNCTION ledger_update;
DROP FUNCTION ledger_insert;
