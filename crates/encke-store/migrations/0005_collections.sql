-- Documents of which there are many but small ones: policies, groups, shared quotas, news.
CREATE TABLE collections (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    organization TEXT NOT NULL,
    hash TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, id)
);

-- Hash of the policy as it stands in the profile: differs from the policy's own while an edit is being passed on.
ALTER TABLE users ADD COLUMN policy_hash TEXT NOT NULL DEFAULT '';
CREATE INDEX users_policy ON users (policy, policy_hash);
CREATE INDEX users_group ON users (user_group);

-- Storage Vaults that share a quota, with the bytes they were last measured at.
CREATE TABLE vault_quotas (
    quota TEXT NOT NULL,
    username TEXT NOT NULL,
    vault TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (quota, username, vault)
);
CREATE INDEX vault_quotas_username ON vault_quotas (username);
