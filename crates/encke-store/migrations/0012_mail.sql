-- Mails that wait, and for a while those that were sent or given up. What several of them say is kept once, until the
-- last of them needs it no more.
CREATE TABLE mail_contents (
    id TEXT PRIMARY KEY,
    subject TEXT NOT NULL,
    plain TEXT NOT NULL,
    html TEXT NOT NULL
);
CREATE TABLE mail_attachments (
    content TEXT NOT NULL REFERENCES mail_contents (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    name TEXT NOT NULL,
    media TEXT NOT NULL,
    bytes {blob} NOT NULL,
    PRIMARY KEY (content, number)
);
-- State 0 waits, 1 was sent, 2 was given up. Times in Unix seconds. The id is also the mail's Message-ID.
CREATE TABLE mails (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL,
    recipient TEXT NOT NULL,
    subject TEXT NOT NULL,
    content TEXT NOT NULL,
    state BIGINT NOT NULL,
    created BIGINT NOT NULL,
    due BIGINT NOT NULL,
    tries BIGINT NOT NULL,
    ended BIGINT NOT NULL,
    error TEXT NOT NULL
);
CREATE INDEX mails_due ON mails (due) WHERE state = 0;
CREATE INDEX mails_content ON mails (content) WHERE state = 0;
CREATE INDEX mails_created ON mails (organization, created);
CREATE INDEX mails_ended ON mails (ended) WHERE state > 0;

-- Numbers that only grow, by name.
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);

-- Which of several servers on this database does what only one may do, and until when (Unix seconds).
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    until BIGINT NOT NULL
);

-- How far each webhook has told of the stored events, and the key it signs with (wrapped with the server's).
CREATE TABLE webhooks (
    organization TEXT NOT NULL,
    name TEXT NOT NULL,
    told BIGINT NOT NULL,
    signing_key TEXT NOT NULL,
    succeeded BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    error TEXT NOT NULL,
    PRIMARY KEY (organization, name)
);
