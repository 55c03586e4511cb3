-- +goose Up
-- What an attempt is counted by: bucket is -1 for those that are not counted, such as tests.
ALTER TABLE attempts ADD COLUMN webhook_id TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN good INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN bucket INTEGER NOT NULL DEFAULT -1;

-- How many attempts began in each minute, by how they ended and by how long they took: the sum of what
-- each transaction has added. Nobody updates a row; Prune adds rows up.
CREATE TABLE activity (
    account_id TEXT COLLATE "C" NOT NULL,
    webhook_id TEXT COLLATE "C" NOT NULL, -- empty: all of the account's
    minute     BIGINT           NOT NULL, -- since 1970
    good       INTEGER          NOT NULL,
    bucket     INTEGER          NOT NULL,
    count      BIGINT           NOT NULL,
    summed     BOOLEAN          NOT NULL DEFAULT false
);
CREATE INDEX activity_by_minute ON activity (account_id, webhook_id, minute);
CREATE INDEX activity_to_sum ON activity (minute) WHERE NOT summed;

-- +goose StatementBegin
CREATE FUNCTION activity_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO activity
        SELECT account_id, hook, minute, good, bucket, COUNT(*) FROM (
            SELECT account_id, webhook_id AS hook, start_time / 60000000 AS minute, good, bucket FROM added WHERE bucket >= 0
            UNION ALL SELECT account_id, '', start_time / 60000000, good, bucket FROM added WHERE bucket >= 0
        ) AS counted GROUP BY account_id, hook, minute, good, bucket;
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER activity_insert AFTER INSERT ON attempts
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION activity_insert();

-- +goose Down
DROP TRIGGER activity_insert ON attempts;
DROP FUNCTION activity_insert;
DROP TABLE activity;
ALTER TABLE attempts DROP COLUMN bucket;
ALTER TABLE attempts DROP COLUMN good;
ALTER TABLE attempts DROP COLUMN webhook_id;
