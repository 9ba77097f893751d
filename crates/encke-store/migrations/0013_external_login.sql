-- Who an administrator of another system is here. The subject is what that system calls a person for good, the name may
-- change there; a binding outlives the administrator, so that nobody else comes into the name.
CREATE TABLE external_admins (
    source TEXT NOT NULL,
    subject TEXT NOT NULL,
    username TEXT NOT NULL,
    PRIMARY KEY (source, subject)
);
CREATE UNIQUE INDEX external_admins_username ON external_admins (source, username);
