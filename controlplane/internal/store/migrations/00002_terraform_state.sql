-- +goose Up
CREATE TABLE terraform_state (
    account_id TEXT NOT NULL REFERENCES account (id),
    name       TEXT NOT NULL,
    version    BIGINT NOT NULL,
    lock_id    TEXT NOT NULL,
    lock_info  TEXT NOT NULL,
    PRIMARY KEY (account_id, name)
);

CREATE TABLE terraform_state_version (
    account_id TEXT NOT NULL,
    name       TEXT NOT NULL,
    version    BIGINT NOT NULL,
    serial     BIGINT NOT NULL,
    lineage    TEXT NOT NULL,
    size       BIGINT NOT NULL,
    digest     BYTEA NOT NULL,
    content_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (account_id, name, version),
    FOREIGN KEY (account_id, name) REFERENCES terraform_state (account_id, name)
);

CREATE TABLE terraform_state_content (
    id     TEXT PRIMARY KEY,
    sealed BYTEA NOT NULL
);

-- +goose Down
DROP TABLE terraform_state_content;
DROP TABLE terraform_state_version;
DROP TABLE terraform_state;
