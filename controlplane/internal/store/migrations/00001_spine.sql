-- +goose Up

-- Portable between SQLite and PostgreSQL. Times are milliseconds since 1970 in UTC, 0 is never.
-- seq orders the objects of an account by creation: serial * 65536 + index inside the write.

CREATE TABLE installation (
    name       TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE account (
    id                      TEXT PRIMARY KEY,
    serial                  BIGINT NOT NULL,
    epoch                   TEXT NOT NULL,
    version                 BIGINT NOT NULL,
    next_ordinal            BIGINT NOT NULL,
    network                 TEXT NOT NULL,
    network_v6              TEXT NOT NULL,
    dns_domain              TEXT NOT NULL,
    peer_approval           BOOLEAN NOT NULL,
    onboarding_flow_pending BOOLEAN NOT NULL,
    signup_form_pending     BOOLEAN NOT NULL,
    domain                  TEXT NOT NULL,
    created_at              BIGINT NOT NULL,
    created_by              TEXT NOT NULL
);

CREATE TABLE "user" (
    id              TEXT PRIMARY KEY,
    account_id      TEXT NOT NULL REFERENCES account (id),
    seq             BIGINT NOT NULL,
    email           TEXT NOT NULL,
    name            TEXT NOT NULL,
    role            TEXT NOT NULL,
    is_service_user BOOLEAN NOT NULL,
    is_blocked      BOOLEAN NOT NULL,
    password_hash   TEXT NOT NULL,
    last_login      BIGINT NOT NULL,
    created_at      BIGINT NOT NULL,
    version         BIGINT NOT NULL
);
CREATE INDEX user_account ON "user" (account_id, seq);
CREATE UNIQUE INDEX user_email ON "user" (account_id, email) WHERE email <> '';

CREATE TABLE token (
    id         TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES account (id),
    user_id    TEXT NOT NULL REFERENCES "user" (id),
    seq        BIGINT NOT NULL,
    name       TEXT NOT NULL,
    sha256     BYTEA NOT NULL,
    hint       TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    expires_in BIGINT NOT NULL,
    last_used  BIGINT NOT NULL,
    version    BIGINT NOT NULL
);
CREATE UNIQUE INDEX token_sha256 ON token (sha256);
CREATE INDEX token_account ON token (account_id, seq);

CREATE TABLE setup_key (
    id                     TEXT PRIMARY KEY,
    account_id             TEXT NOT NULL REFERENCES account (id),
    seq                    BIGINT NOT NULL,
    name                   TEXT NOT NULL,
    type                   TEXT NOT NULL,
    sha256                 BYTEA NOT NULL,
    hint                   TEXT NOT NULL,
    expires_in             BIGINT NOT NULL,
    expires_at             BIGINT NOT NULL,
    usage_limit            BIGINT NOT NULL,
    used_times             BIGINT NOT NULL,
    last_used              BIGINT NOT NULL,
    revoked                BOOLEAN NOT NULL,
    ephemeral              BOOLEAN NOT NULL,
    allow_extra_dns_labels BOOLEAN NOT NULL,
    auto_groups            TEXT NOT NULL,
    created_at             BIGINT NOT NULL,
    updated_at             BIGINT NOT NULL,
    version                BIGINT NOT NULL
);
CREATE UNIQUE INDEX setup_key_sha256 ON setup_key (sha256);
CREATE INDEX setup_key_account ON setup_key (account_id, seq);

CREATE TABLE peer (
    id                TEXT PRIMARY KEY,
    account_id        TEXT NOT NULL REFERENCES account (id),
    seq               BIGINT NOT NULL,
    ordinal           BIGINT NOT NULL,
    name              TEXT NOT NULL,
    dns_label         TEXT NOT NULL,
    ip                TEXT NOT NULL,
    ipv6              TEXT NOT NULL,
    machine_key       BYTEA NOT NULL,
    wireguard_key     BYTEA NOT NULL,
    approval_required BOOLEAN NOT NULL,
    ephemeral         BOOLEAN NOT NULL,
    setup_key_id      TEXT NOT NULL,
    user_id           TEXT NOT NULL,
    created_at        BIGINT NOT NULL,
    version           BIGINT NOT NULL
);
CREATE UNIQUE INDEX peer_machine_key ON peer (machine_key);
CREATE UNIQUE INDEX peer_wireguard_key ON peer (wireguard_key);
CREATE UNIQUE INDEX peer_ordinal ON peer (account_id, ordinal);
CREATE UNIQUE INDEX peer_ip ON peer (account_id, ip);
CREATE UNIQUE INDEX peer_dns_label ON peer (account_id, dns_label);

-- A freed ordinal is not given again while a retained log may still name it.
CREATE TABLE freed_ordinal (
    account_id TEXT NOT NULL REFERENCES account (id),
    ordinal    BIGINT NOT NULL,
    freed_at   BIGINT NOT NULL,
    PRIMARY KEY (account_id, ordinal)
);

CREATE TABLE presence (
    peer_id       TEXT PRIMARY KEY REFERENCES peer (id) ON DELETE CASCADE,
    last_seen     BIGINT NOT NULL,
    connection_ip TEXT NOT NULL,
    facts         TEXT NOT NULL
);

CREATE TABLE object (
    id         TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES account (id),
    kind       TEXT NOT NULL,
    seq        BIGINT NOT NULL,
    name       TEXT NOT NULL,
    name_key   TEXT,
    created_at BIGINT NOT NULL,
    version    BIGINT NOT NULL,
    body       TEXT NOT NULL
);
CREATE INDEX object_account ON object (account_id, kind, seq);
CREATE INDEX object_name ON object (account_id, kind, name);
CREATE UNIQUE INDEX object_name_key ON object (account_id, kind, name_key);

CREATE TABLE membership (
    account_id TEXT NOT NULL REFERENCES account (id),
    group_id   TEXT NOT NULL REFERENCES object (id),
    peer_id    TEXT NOT NULL REFERENCES peer (id),
    position   BIGINT NOT NULL,
    source     TEXT NOT NULL,
    PRIMARY KEY (group_id, peer_id)
);
CREATE INDEX membership_peer ON membership (peer_id);
CREATE INDEX membership_account ON membership (account_id);

-- Who uses what: "in use" with referrers, and foreign keys of ids inside JSON.
CREATE TABLE object_ref (
    account_id TEXT NOT NULL REFERENCES account (id),
    from_kind  TEXT NOT NULL,
    from_id    TEXT NOT NULL,
    field      TEXT NOT NULL,
    to_kind    TEXT NOT NULL,
    to_id      TEXT NOT NULL,
    PRIMARY KEY (from_kind, from_id, field, to_kind, to_id)
);
CREATE INDEX object_ref_to ON object_ref (account_id, to_kind, to_id);

CREATE TABLE change_log (
    account_id TEXT NOT NULL REFERENCES account (id),
    serial     BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    payload    TEXT NOT NULL,
    PRIMARY KEY (account_id, serial)
);

CREATE TABLE audit (
    account_id      TEXT NOT NULL REFERENCES account (id),
    n               BIGINT NOT NULL,
    created_at      BIGINT NOT NULL,
    activity        TEXT NOT NULL,
    initiator_id    TEXT NOT NULL,
    initiator_name  TEXT NOT NULL,
    initiator_email TEXT NOT NULL,
    target_id       TEXT NOT NULL,
    channel         TEXT NOT NULL,
    request_id      TEXT NOT NULL,
    meta            TEXT NOT NULL,
    before          TEXT NOT NULL,
    after           TEXT NOT NULL,
    hash            BYTEA NOT NULL,
    PRIMARY KEY (account_id, n)
);

CREATE TABLE idempotency (
    caller       TEXT NOT NULL,
    key          TEXT NOT NULL,
    request_hash BYTEA NOT NULL,
    status       BIGINT NOT NULL,
    sealed       BOOLEAN NOT NULL,
    answer       BYTEA NOT NULL,
    expires_at   BIGINT NOT NULL,
    PRIMARY KEY (caller, key)
);
CREATE INDEX idempotency_expires ON idempotency (expires_at);

CREATE TABLE data_key (
    id            TEXT PRIMARY KEY,
    master_key_id TEXT NOT NULL,
    wrapped       BYTEA NOT NULL,
    created_at    BIGINT NOT NULL
);

CREATE TABLE canary (
    name          TEXT PRIMARY KEY,
    master_key_id TEXT NOT NULL,
    sealed        BYTEA NOT NULL
);

CREATE TABLE secret (
    name   TEXT PRIMARY KEY,
    sealed BYTEA NOT NULL
);

-- +goose Down
DROP TABLE secret;
DROP TABLE canary;
DROP TABLE data_key;
DROP TABLE idempotency;
DROP TABLE audit;
DROP TABLE change_log;
DROP TABLE object_ref;
DROP TABLE membership;
DROP TABLE object;
DROP TABLE presence;
DROP TABLE freed_ordinal;
DROP TABLE peer;
DROP TABLE setup_key;
DROP TABLE token;
DROP TABLE "user";
DROP TABLE account;
DROP TABLE installation;
