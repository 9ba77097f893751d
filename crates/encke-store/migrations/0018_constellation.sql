-- What is known of the buckets of all servers and of who uses them: the newest report, and what is counted over all
-- reports.
CREATE TABLE constellation (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL
);
