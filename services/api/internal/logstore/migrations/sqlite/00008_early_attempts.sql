-- +goose Up
-- Most deliveries have one attempt, a moment after they were made: it is kept in the delivery's row. The ids have a
-- space behind each; the records are fields of a message, one after another. Attempts that are in the table of
-- attempts stay there.
ALTER TABLE deliveries ADD COLUMN early_ids TEXT NOT NULL DEFAULT '';
ALTER TABLE deliveries ADD COLUMN early BLOB NOT NULL DEFAULT x'';

-- +goose Down
-- They are counted already. A second early attempt of a delivery, which a dispatcher's death leaves, is not brought
-- back; when exactly the others began is in their records.
INSERT INTO attempts (delivery_id, attempt_id, account_id, start_time, record, webhook_id, good, bucket)
    SELECT delivery_id, substr(early_ids, 1, instr(early_ids, ' ') - 1), account_id, create_time,
        substr(early, CASE WHEN length(early) < 130 THEN 3 ELSE 4 END), webhook_id, 0, -1
    FROM deliveries WHERE instr(early_ids, ' ') = length(early_ids) AND early_ids <> ''
    ON CONFLICT DO NOTHING;
ALTER TABLE deliveries DROP COLUMN early;
ALTER TABLE deliveries DROP COLUMN early_ids;
