-- +goose Up
-- What is looked for by a text is found by a number made of it, which an index holds and compares at a fraction of
-- the cost. And most deliveries have one attempt, a moment after they were made: it is kept in the delivery's row.
-- Go makes the numbers, and a log of months would be rewritten while nobody can read it: a log of before is dropped,
-- and built again from the journal, as after a reset.
TRUNCATE events, deliveries, attempts, moves, ledger, activity;
UPDATE log SET token = replace(gen_random_uuid()::text, '-', ''), incomplete = -1;

ALTER TABLE events
    ADD COLUMN account_key INTEGER NOT NULL, -- of account_id
    ADD COLUMN type_key    INTEGER NOT NULL, -- of account_id and event_type
    ADD COLUMN event_key   BIGINT  NOT NULL, -- of event_id, in the order of the ids
    ADD COLUMN given_hash  BIGINT  NOT NULL, -- of account_id and given_key
    ADD COLUMN trace_hash  BIGINT  NOT NULL; -- of account_id and trace_id
DROP INDEX events_by_account;
DROP INDEX events_by_type;
DROP INDEX events_by_key;
DROP INDEX events_by_trace;
DROP INDEX events_unmatched;
-- Whoever asks for an event names the account.
ALTER TABLE events DROP CONSTRAINT events_pkey, ADD PRIMARY KEY (account_key, event_key, event_id, event_day);
CREATE INDEX events_by_type ON events (type_key, event_key);
CREATE INDEX events_by_key ON events (given_hash) WHERE given_key <> '';
CREATE INDEX events_by_trace ON events (trace_hash) WHERE trace_id <> '';
CREATE INDEX events_unmatched ON events (account_key, event_key) WHERE matched_total = 0;

ALTER TABLE deliveries
    ADD COLUMN account_key INTEGER NOT NULL, -- of account_id
    ADD COLUMN webhook_key INTEGER NOT NULL, -- of webhook_id
    ADD COLUMN type_key    INTEGER NOT NULL, -- of account_id and event_type
    ADD COLUMN event_key   BIGINT  NOT NULL, -- of event_id, in the order of the ids
    ADD COLUMN early_ids   TEXT COLLATE "C" NOT NULL, -- each with a space behind it
    ADD COLUMN early       BYTEA   NOT NULL, -- their records, fields of a message
    ADD COLUMN early_start BIGINT  NOT NULL, -- what the last that was added is counted by
    ADD COLUMN early_good  INTEGER NOT NULL,
    ADD COLUMN early_bucket INTEGER NOT NULL;
DROP INDEX deliveries_by_time;
DROP INDEX deliveries_by_event;
DROP INDEX deliveries_by_webhook;
DROP INDEX deliveries_by_type;
CREATE INDEX deliveries_by_time ON deliveries (account_key, create_time);
CREATE INDEX deliveries_by_event ON deliveries (event_key);
CREATE INDEX deliveries_by_webhook ON deliveries (webhook_key, create_time);
CREATE INDEX deliveries_by_type ON deliveries (type_key, create_time);

-- +goose StatementBegin
CREATE FUNCTION early_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO activity
        SELECT account_id, hook, minute, good, bucket, SUM(n) FROM (
            SELECT account_id, webhook_id, early_start / 60000000 AS minute, early_good AS good, early_bucket AS bucket, COUNT(*) AS n
                FROM added WHERE early_ids <> '' GROUP BY 1, 2, 3, 4, 5
        ) AS counted, LATERAL (VALUES (webhook_id), ('')) AS whose (hook) GROUP BY 1, 2, 3, 4, 5;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- A row that gets its first is counted by what the rows have now, less what they had. One that gets a second is
-- compared with what it was, which the planner, who knows no size of what has changed, does with each row.
-- +goose StatementBegin
CREATE FUNCTION early_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM added WHERE strpos(early_ids, ' ') < length(early_ids)) THEN
        INSERT INTO activity
            SELECT account_id, hook, minute, good, bucket, SUM(n) FROM (
                SELECT a.account_id, a.webhook_id, a.early_start / 60000000 AS minute, a.early_good AS good, a.early_bucket AS bucket, COUNT(*) AS n
                    FROM added a JOIN removed r ON r.delivery_id = a.delivery_id
                    WHERE a.early_ids <> r.early_ids GROUP BY 1, 2, 3, 4, 5
            ) AS counted, LATERAL (VALUES (webhook_id), ('')) AS whose (hook) GROUP BY 1, 2, 3, 4, 5;
    ELSE
        INSERT INTO activity
            SELECT account_id, hook, minute, good, bucket, SUM(n) FROM (
                SELECT account_id, webhook_id, early_start / 60000000 AS minute, early_good AS good, early_bucket AS bucket, SUM(n) AS n FROM (
                    SELECT account_id, webhook_id, early_start, early_good, early_bucket, 1 AS n FROM added WHERE early_ids <> ''
                    UNION ALL SELECT account_id, webhook_id, early_start, early_good, early_bucket, -1 FROM removed WHERE early_ids <> ''
                ) AS changes GROUP BY 1, 2, 3, 4, 5 HAVING SUM(n) <> 0
            ) AS counted, LATERAL (VALUES (webhook_id), ('')) AS whose (hook) GROUP BY 1, 2, 3, 4, 5;
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER early_insert AFTER INSERT ON deliveries
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION early_insert();
CREATE TRIGGER early_update AFTER UPDATE ON deliveries
    REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION early_update();

-- +goose Down
-- The other way round it is dropped too.
TRUNCATE events, deliveries, attempts, moves, ledger, activity;
UPDATE log SET token = replace(gen_random_uuid()::text, '-', ''), incomplete = -1;
DROP TRIGGER early_update ON deliveries;
DROP TRIGGER early_insert ON deliveries;
DROP FUNCTION early_update;
DROP FUNCTION early_insert;
-- The columns take their indexes with them, and the key.
ALTER TABLE deliveries DROP COLUMN early_bucket, DROP COLUMN early_good, DROP COLUMN early_start, DROP COLUMN early, DROP COLUMN early_ids,
    DROP COLUMN event_key, DROP COLUMN type_key, DROP COLUMN webhook_key, DROP COLUMN account_key;
ALTER TABLE events DROP COLUMN trace_hash, DROP COLUMN given_hash, DROP COLUMN event_key, DROP COLUMN type_key, DROP COLUMN account_key;
ALTER TABLE events ADD PRIMARY KEY (event_id, event_day);
CREATE INDEX deliveries_by_time ON deliveries (account_id, create_time, delivery_id);
CREATE INDEX deliveries_by_event ON deliveries (event_id);
CREATE INDEX deliveries_by_webhook ON deliveries (webhook_id, create_time, delivery_id);
CREATE INDEX deliveries_by_type ON deliveries (account_id, event_type, create_time, delivery_id);
CREATE INDEX events_by_account ON events (account_id, event_id);
CREATE INDEX events_by_type ON events (account_id, event_type, event_id);
CREATE INDEX events_by_key ON events (account_id, given_key, event_id) WHERE given_key <> '';
CREATE INDEX events_by_trace ON events (account_id, trace_id, event_id) WHERE trace_id <> '';
CREATE INDEX events_unmatched ON events (account_id, event_id) WHERE matched_total = 0;
