-- +goose Up
-- Most deliveries have one attempt, a moment after they were made: it is kept in the delivery's row. The ids have a
-- space behind each; the records are fields of a message, one after another. Attempts that are in the table of
-- attempts stay there. What the last that was added is counted by stands beside them.
ALTER TABLE deliveries ADD COLUMN early_ids TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE deliveries ADD COLUMN early BYTEA NOT NULL DEFAULT '';
ALTER TABLE deliveries ADD COLUMN early_start BIGINT NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN early_good INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN early_bucket INTEGER NOT NULL DEFAULT -1;

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
-- They are counted already. A second early attempt of a delivery, which a dispatcher's death leaves, is not brought
-- back.
INSERT INTO attempts (event_day, attempt_id, delivery_id, account_id, start_time, record, webhook_id, good, bucket)
    SELECT event_day, split_part(early_ids, ' ', 1), delivery_id, account_id, early_start,
        substr(early, CASE WHEN length(early) < 130 THEN 3 ELSE 4 END), webhook_id, early_good, -1
    FROM deliveries WHERE early_ids <> '' AND strpos(early_ids, ' ') = length(early_ids)
    ON CONFLICT DO NOTHING;
DROP TRIGGER early_update ON deliveries;
DROP TRIGGER early_insert ON deliveries;
DROP FUNCTION early_update;
DROP FUNCTION early_insert;
ALTER TABLE deliveries DROP COLUMN early_bucket;
ALTER TABLE deliveries DROP COLUMN early_good;
ALTER TABLE deliveries DROP COLUMN early_start;
ALTER TABLE deliveries DROP COLUMN early;
ALTER TABLE deliveries DROP COLUMN early_ids;
