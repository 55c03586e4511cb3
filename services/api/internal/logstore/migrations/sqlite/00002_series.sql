-- +goose Up
ALTER TABLE deliveries ADD COLUMN series INTEGER NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE deliveries DROP COLUMN series;
