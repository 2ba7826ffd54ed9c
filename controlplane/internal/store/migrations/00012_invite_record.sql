-- +goose Up

-- expires_in: seconds, the life that was asked for. accepted_at: 0 while nobody accepted it; an accepted one is a record.
ALTER TABLE invite ADD COLUMN expires_in BIGINT NOT NULL DEFAULT 259200;
ALTER TABLE invite ADD COLUMN accepted_at BIGINT NOT NULL DEFAULT 0;

-- +goose Down
DELETE FROM invite WHERE accepted_at <> 0;
ALTER TABLE invite DROP COLUMN accepted_at;
ALTER TABLE invite DROP COLUMN expires_in;
