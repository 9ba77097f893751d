-- Documents that exist once: the server configuration.
CREATE TABLE documents (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    hash TEXT NOT NULL
);

-- One account a row: the profile document and the few columns that are searched on.
CREATE TABLE users (
    username TEXT PRIMARY KEY,
    organization TEXT NOT NULL,
    user_group TEXT NOT NULL,
    policy TEXT NOT NULL,
    suspended BIGINT NOT NULL,
    devices BIGINT NOT NULL,
    hash TEXT NOT NULL,
    body TEXT NOT NULL,
    modified BIGINT NOT NULL
);
CREATE INDEX users_organization ON users (organization, username);

-- Sessions by the SHA-256 of their key.
CREATE TABLE sessions (
    key_hash TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    organization TEXT NOT NULL,
    pending BIGINT NOT NULL,
    created BIGINT NOT NULL,
    used BIGINT NOT NULL
);
CREATE INDEX sessions_name ON sessions (kind, name);
CREATE INDEX sessions_used ON sessions (used);

-- Events in the order of their transactions.
CREATE TABLE events (
    id {autoincrement},
    time BIGINT NOT NULL,
    organization TEXT NOT NULL,
    type BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX events_time ON events (time);
