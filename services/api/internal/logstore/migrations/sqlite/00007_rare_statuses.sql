-- +goose Up
-- A status that few deliveries have is found by it, also where it is a success.
DROP INDEX deliveries_by_status;
CREATE INDEX deliveries_by_status ON deliveries (account_id, last_status_code, create_time, delivery_id)
    WHERE last_status_code NOT IN (0, 200);

-- +goose Down
DROP INDEX deliveries_by_status;
CREATE INDEX deliveries_by_status ON deliveries (account_id, last_status_code, create_time, delivery_id)
    WHERE last_outcome <> '' AND last_outcome <> 'succeeded';
