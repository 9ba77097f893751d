-- The administrator who started a session for somebody else; empty for one's own.
ALTER TABLE sessions ADD COLUMN started_by TEXT NOT NULL DEFAULT '';

-- Install tokens by the SHA-256 of the token. What they stand for is sealed with a key made from the token itself,
-- so this table alone opens nothing.
CREATE TABLE install_tokens (
    token_hash TEXT PRIMARY KEY,
    username TEXT NOT NULL,
    server TEXT NOT NULL,
    sealed TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    used BIGINT NOT NULL
);
CREATE INDEX install_tokens_username ON install_tokens (username);
CREATE INDEX install_tokens_expires ON install_tokens (expires);
