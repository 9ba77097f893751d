-- Up to when (Unix seconds) a periodic duty of the server was done, by name.
CREATE TABLE duties (
    name TEXT PRIMARY KEY,
    done BIGINT NOT NULL
);
-- Backups of one item into one vault by their start, for the watch over schedules.
CREATE INDEX jobs_item ON jobs (username, source, destination, started);
