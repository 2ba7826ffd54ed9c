-- +goose Up

-- settings: JSON, the settings of an account that have no column of their own; what it leaves out has its default.
ALTER TABLE account ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';

-- extra_dns_labels: JSON, the DNS labels that the machine asked for besides dns_label.
ALTER TABLE peer ADD COLUMN extra_dns_labels TEXT NOT NULL DEFAULT '[]';
ALTER TABLE peer ADD COLUMN ssh_enabled BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE peer ADD COLUMN login_expiration_enabled BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE peer ADD COLUMN inactivity_expiration_enabled BOOLEAN NOT NULL DEFAULT FALSE;
CREATE UNIQUE INDEX peer_ipv6 ON peer (account_id, ipv6);

-- Every DNS label of a peer besides its own: one holder for each.
CREATE TABLE peer_label (
    account_id TEXT NOT NULL REFERENCES account (id),
    label      TEXT NOT NULL,
    peer_id    TEXT NOT NULL REFERENCES peer (id) ON DELETE CASCADE,
    PRIMARY KEY (account_id, label)
);
CREATE INDEX peer_label_peer ON peer_label (peer_id);

CREATE TABLE invite (
    id          TEXT PRIMARY KEY,
    account_id  TEXT NOT NULL REFERENCES account (id),
    seq         BIGINT NOT NULL,
    email       TEXT NOT NULL,
    name        TEXT NOT NULL,
    role        TEXT NOT NULL,
    auto_groups TEXT NOT NULL,
    sha256      BYTEA NOT NULL,
    created_by  TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    version     BIGINT NOT NULL
);
CREATE UNIQUE INDEX invite_sha256 ON invite (sha256);
CREATE INDEX invite_account ON invite (account_id, seq);

-- +goose Down
DROP TABLE invite;
DROP TABLE peer_label;
DROP INDEX peer_ipv6;
ALTER TABLE peer DROP COLUMN inactivity_expiration_enabled;
ALTER TABLE peer DROP COLUMN login_expiration_enabled;
ALTER TABLE peer DROP COLUMN ssh_enabled;
ALTER TABLE peer DROP COLUMN extra_dns_labels;
ALTER TABLE account DROP COLUMN settings;
