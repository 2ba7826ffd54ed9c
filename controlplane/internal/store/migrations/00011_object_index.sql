-- +goose Up

-- The index by name begins with the same columns, and nobody asks for the objects of a kind in their order.
DROP INDEX object_account;

-- +goose Down
CREATE INDEX object_account ON object (account_id, kind, seq);
