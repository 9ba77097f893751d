-- Reports sent by e-mail on a schedule, and the files of those that are too large for a mail.
CREATE TABLE report_schedules (
    id TEXT PRIMARY KEY,
    report TEXT NOT NULL REFERENCES reports (id) ON DELETE CASCADE,
    body TEXT NOT NULL,
    -- When it is due, and when it is tried again after a failure, in seconds since 1970; 0 for never.
    due BIGINT NOT NULL,
    try_at BIGINT NOT NULL,
    tries BIGINT NOT NULL,
    -- When it was sent last, and what went wrong last; empty for nothing.
    sent BIGINT NOT NULL,
    problem TEXT NOT NULL
);
CREATE INDEX report_schedules_report ON report_schedules (report);
CREATE INDEX report_schedules_try_at ON report_schedules (try_at);

CREATE TABLE report_files (
    secret_hash TEXT PRIMARY KEY,
    report TEXT NOT NULL REFERENCES reports (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    media TEXT NOT NULL,
    stored TEXT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX report_files_report ON report_files (report);
