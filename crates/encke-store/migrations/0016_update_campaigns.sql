-- The newest update campaign, in a row of number 1: its settings, and the SHA-256 of the program that devices get.
CREATE TABLE update_campaign (
    number BIGINT PRIMARY KEY,
    body TEXT NOT NULL,
    program TEXT NOT NULL
);
-- How far each device has come with it.
CREATE TABLE update_campaign_devices (
    username TEXT NOT NULL,
    device TEXT NOT NULL,
    status BIGINT NOT NULL,
    PRIMARY KEY (username, device)
);
