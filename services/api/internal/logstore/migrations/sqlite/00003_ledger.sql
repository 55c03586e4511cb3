-- +goose Up
-- Whether an entry of routing named the delivery. Until now no other entry came first for good.
ALTER TABLE deliveries ADD COLUMN routed INTEGER NOT NULL DEFAULT 0;
UPDATE deliveries SET routed = 1;

-- How many deliveries of an account are in each state, and how many are routed: rows counted, kept by
-- the triggers below in the transaction that changes a row.
CREATE TABLE ledger (
    account_id TEXT    NOT NULL,
    term       TEXT    NOT NULL, -- a state, or "routed"
    count      INTEGER NOT NULL,
    PRIMARY KEY (account_id, term)
) WITHOUT ROWID;
INSERT INTO ledger SELECT account_id, state, COUNT(*) FROM deliveries GROUP BY account_id, state;
INSERT INTO ledger SELECT account_id, 'routed', SUM(routed) FROM deliveries GROUP BY account_id;

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
CREATE TRIGGER ledger_delete AFTER DELETE ON deliveries BEGIN
    UPDATE ledger SET count = count - 1 WHERE account_id = OLD.account_id AND term = OLD.state;
    UPDATE ledger SET count = count - OLD.routed WHERE account_id = OLD.account_id AND term = 'routed';
END;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER ledger_delete;
DROP TRIGGER ledger_update;
DROP TRIGGER ledger_insert;
DROP TABLE ledger;
ALTER TABLE deliveries DROP COLUMN routed;
