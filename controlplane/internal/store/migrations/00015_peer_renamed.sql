-- +goose Up

-- Whether an administrator chose the name, so that it does not follow what the machine calls itself. Names of peers that
-- are there may have been chosen.
ALTER TABLE peer ADD COLUMN renamed BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE peer SET renamed = TRUE;

-- +goose Down
ALTER TABLE peer DROP COLUMN renamed;
