-- Numbers of accounts, devices and buckets over time, an organization a row; the whole server's under '*'.
CREATE TABLE statistics (
    time BIGINT NOT NULL,
    organization TEXT NOT NULL,
    users BIGINT NOT NULL,
    devices BIGINT NOT NULL,
    buckets BIGINT NOT NULL,
    PRIMARY KEY (organization, time)
);
