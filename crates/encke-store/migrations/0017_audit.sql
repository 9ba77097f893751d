-- Who changed what, when and from where, with what it was and became. Unlike events it is not sent to anybody.
CREATE TABLE audit (
    id {autoincrement},
    time BIGINT NOT NULL,
    -- Whose administrators see it; empty for the top level.
    organization TEXT NOT NULL,
    -- Who asked for it, from which address; empty for the server itself.
    actor TEXT NOT NULL,
    actor_organization TEXT NOT NULL,
    address TEXT NOT NULL,
    kind TEXT NOT NULL,
    action TEXT NOT NULL,
    resource TEXT NOT NULL,
    changes TEXT NOT NULL
);
CREATE INDEX audit_time ON audit (time);
CREATE INDEX audit_organization ON audit (organization, id);
