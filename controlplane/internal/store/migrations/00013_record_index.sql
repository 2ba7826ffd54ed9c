-- +goose Up

-- Only DNS records are looked up by a name that several of them may have; all else has a key or is found by its id.
DROP INDEX object_name;
CREATE INDEX object_record ON object (account_id, name) WHERE kind = 'dns-record';

-- +goose Down
DROP INDEX object_record;
CREATE INDEX object_name ON object (account_id, kind, name);
