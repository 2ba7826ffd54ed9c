-- +goose Up

-- The WireGuard key that a machine has made and will change over to; NULL for none.
ALTER TABLE peer ADD COLUMN next_wireguard_key BYTEA;
CREATE UNIQUE INDEX peer_next_wireguard_key ON peer (next_wireguard_key);

-- +goose Down
DROP INDEX peer_next_wireguard_key;
ALTER TABLE peer DROP COLUMN next_wireguard_key;
