-- One job a row: the whole detail document and the columns that lists and searches use.
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    username TEXT NOT NULL,
    organization TEXT NOT NULL,
    device TEXT NOT NULL,
    source TEXT NOT NULL,
    destination TEXT NOT NULL,
    class BIGINT NOT NULL,
    status BIGINT NOT NULL,
    started BIGINT NOT NULL,
    ended BIGINT NOT NULL,
    counter BIGINT NOT NULL,
    received BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX jobs_username ON jobs (username, started);
CREATE INDEX jobs_organization ON jobs (organization, started);
CREATE INDEX jobs_started ON jobs (started);
CREATE INDEX jobs_ended ON jobs (ended);
CREATE INDEX jobs_running ON jobs (username, device) WHERE status BETWEEN 6000 AND 6999;

-- Log lines by their number within the job, so that a repeated report changes nothing.
CREATE TABLE job_log (
    job_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    time BIGINT NOT NULL,
    severity TEXT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (job_id, seq)
){clustered};
