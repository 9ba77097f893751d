-- Storage Role buckets. Their bytes live in folders; the size is what the last measurement found.
CREATE TABLE buckets (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL,
    created BIGINT NOT NULL,
    key_format BIGINT NOT NULL,
    key_hash TEXT NOT NULL,
    size BIGINT NOT NULL,
    measure_started BIGINT NOT NULL,
    measure_completed BIGINT NOT NULL
);
CREATE INDEX buckets_organization ON buckets (organization, id);
