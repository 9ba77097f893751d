-- What runs now and what came to a certain end, for lists of recent jobs and searches by status; and a device's jobs.
DROP INDEX jobs_running;
CREATE INDEX jobs_status ON jobs (status, started);
CREATE INDEX jobs_device ON jobs (device, started);
