-- What the Storage Role enforces for a bucket, whoever holds its key. Zero: no limit, deletions allowed, no trash.
ALTER TABLE buckets ADD COLUMN quota BIGINT NOT NULL DEFAULT 0;
ALTER TABLE buckets ADD COLUMN append_only BIGINT NOT NULL DEFAULT 0;
ALTER TABLE buckets ADD COLUMN trash_days BIGINT NOT NULL DEFAULT 0;
