-- +goose Up

-- Objects that a program declares, such as Terraform; who changes one by hand should know.
CREATE TABLE managed (
    id         TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES account (id),
    managed_by TEXT NOT NULL
);
CREATE INDEX managed_account ON managed (account_id);

-- +goose Down
DROP TABLE managed;
