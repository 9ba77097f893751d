-- What was last given to each server that this one is copied to: the hash of the document here, and the hash that the
-- other server gives its own. Who is missing here was given and has been deleted since.
CREATE TABLE replicated (
    target TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    source_hash TEXT NOT NULL,
    replica_hash TEXT NOT NULL,
    PRIMARY KEY (target, kind, id)
);
