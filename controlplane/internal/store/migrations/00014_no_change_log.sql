-- +goose Up

-- Nobody read it: one process changes an account and tells the others in memory. Who did what stands in the audit.
DROP TABLE change_log;

-- +goose Down
CREATE TABLE change_log (
    account_id TEXT NOT NULL REFERENCES account (id),
    serial     BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    payload    TEXT NOT NULL,
    PRIMARY KEY (account_id, serial)
);
