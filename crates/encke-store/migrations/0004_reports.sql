-- Saved reports, and the codes that open them to outsiders: looked up by hash, kept encrypted for their owner.
CREATE TABLE reports (
    id TEXT PRIMARY KEY,
    owner_kind TEXT NOT NULL,
    owner TEXT NOT NULL,
    organization TEXT NOT NULL,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX reports_owner ON reports (owner_kind, owner, organization, name);

CREATE TABLE report_codes (
    code_hash TEXT PRIMARY KEY,
    report TEXT NOT NULL REFERENCES reports (id) ON DELETE CASCADE,
    sealed TEXT NOT NULL,
    locale TEXT NOT NULL,
    created BIGINT NOT NULL
);
CREATE INDEX report_codes_report ON report_codes (report);
