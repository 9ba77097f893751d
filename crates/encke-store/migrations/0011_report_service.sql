-- Data sources, templates and shares of the report service; codes that end, and a log of their use.
CREATE TABLE report_sources (
    id TEXT PRIMARY KEY,
    owner_kind TEXT NOT NULL,
    owner TEXT NOT NULL,
    organization TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    sealed TEXT NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX report_sources_owner ON report_sources (owner_kind, owner, organization, name);

CREATE TABLE report_templates (
    id BIGINT PRIMARY KEY,
    owner_kind TEXT NOT NULL,
    owner TEXT NOT NULL,
    organization TEXT NOT NULL,
    audience TEXT NOT NULL,
    version BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX report_templates_owner ON report_templates (organization, owner_kind, owner);

-- A report may be seen by others of its organization, each with the rights of their own.
CREATE TABLE report_shares (
    report TEXT NOT NULL REFERENCES reports (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (report, kind, name)
);
CREATE INDEX report_shares_name ON report_shares (kind, name);

-- Seconds since 1970, 0 for never; addresses as text, empty for any.
ALTER TABLE report_codes ADD COLUMN expires BIGINT NOT NULL DEFAULT 0;
ALTER TABLE report_codes ADD COLUMN addresses TEXT NOT NULL DEFAULT '';

-- Calls by report, minute, address and status of the answer.
CREATE TABLE report_calls (
    report TEXT NOT NULL REFERENCES reports (id) ON DELETE CASCADE,
    minute BIGINT NOT NULL,
    address TEXT NOT NULL,
    status BIGINT NOT NULL,
    calls BIGINT NOT NULL,
    result_rows BIGINT NOT NULL,
    PRIMARY KEY (report, minute, address, status)
);
CREATE INDEX report_calls_minute ON report_calls (minute);
