-- +goose Up
-- What an attempt is counted by: bucket is -1 for those that are not counted, such as tests.
ALTER TABLE attempts ADD COLUMN webhook_id TEXT NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN good INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN bucket INTEGER NOT NULL DEFAULT -1;

-- How many attempts began in each minute, by how they ended and by how long they took.
CREATE TABLE activity (
    account_id TEXT    NOT NULL,
    webhook_id TEXT    NOT NULL, -- empty: all of the account's
    minute     INTEGER NOT NULL, -- since 1970
    good       INTEGER NOT NULL,
    bucket     INTEGER NOT NULL,
    count      INTEGER NOT NULL,
    PRIMARY KEY (account_id, webhook_id, minute, good, bucket)
) WITHOUT ROWID;

-- +goose StatementBegin
CREATE TRIGGER activity_insert AFTER INSERT ON attempts WHEN NEW.bucket >= 0 BEGIN
    INSERT INTO activity VALUES (NEW.account_id, NEW.webhook_id, NEW.start_time / 60000000, NEW.good, NEW.bucket, 1)
        ON CONFLICT DO UPDATE SET count = count + 1;
    INSERT INTO activity VALUES (NEW.account_id, '', NEW.start_time / 60000000, NEW.good, NEW.bucket, 1)
        ON CONFLICT DO UPDATE SET count = count + 1;
END;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER activity_insert;
DROP TABLE activity;
ALTER TABLE attempts DROP COLUMN bucket;
ALTER TABLE attempts DROP COLUMN good;
ALTER TABLE attempts DROP COLUMN webhook_id;
