import { Anchor, Button, Card, Group, Progress, SegmentedControl, SimpleGrid, Text } from '@mantine/core';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { Link, useParams } from '@tanstack/react-router';
import { type ReactNode, useState } from 'react';
import { abandonJob, cancelJob, isAdmin, isRunning, useJob, useJobLog, useProfile } from '../api/queries';
import type { Job } from '../api/types';
import { Empty, Failure, Loaded, Page, Section, StatusBadge, Time } from '../components/parts';
import { bytes, className, duration, exact } from '../lib/format';

function Fact({ label, children }: { label: string; children: ReactNode }) {
  return (
    <div>
      <Text size="xs" c="dimmed">
        {label}
      </Text>
      <Text component="div" size="sm">
        {children}
      </Text>
    </div>
  );
}

function Running({ job }: { job: Job }) {
  const done = job.Progress?.ItemsDone ?? 0;
  const total = Math.max(job.Progress?.ItemsTotal ?? 0, 1);
  return (
    <div>
      <Progress value={Math.min(100, (done / total) * 100)} animated aria-label="Progress" />
      <Text size="sm" mt={6} data-testid="progress">
        {done.toLocaleString()} of {total.toLocaleString()} files found so far,{' '}
        {bytes(job.Progress?.BytesDone ?? 0)} read, {bytes(job.UploadSize)} uploaded
      </Text>
    </div>
  );
}

function Log({ job }: { job: Job }) {
  const log = useJobLog(job.GUID, isRunning(job));
  const [least, setLeast] = useState('All');
  const shown = { All: 'DIWE', Warnings: 'WE', Errors: 'E' }[least] ?? 'DIWE';
  return (
    <Section title="Log">
      <SegmentedControl
        size="xs"
        data={['All', 'Warnings', 'Errors']}
        value={least}
        onChange={setLeast}
        w="fit-content"
        aria-label="Severity"
      />
      <Loaded query={log}>
        {(entries) => {
          const lines = entries.filter((e) => shown.includes(e.Severity));
          if (lines.length === 0) return <Empty>Nothing to show.</Empty>;
          return (
            <Card withBorder padding="sm" className="log" role="log">
              {lines.map((entry, at) => (
                <div key={at} className={entry.Severity}>
                  <time title={exact(entry.Time)}>{new Date(entry.Time * 1000).toLocaleTimeString()}</time>
                  {entry.Message}
                </div>
              ))}
            </Card>
          );
        }}
      </Loaded>
    </Section>
  );
}

/** Device, item and vault of a job, by name. */
function Parts({ job }: { job: Job }) {
  const profile = useProfile(job.Username).data?.Profile;
  const params = { username: job.Username, vault: job.DestinationGUID };
  const search = job.SnapshotID ? { snapshot: job.SnapshotID } : {};
  return (
    <>
      {job.DeviceID && (
        <Fact label="Device">
          {profile?.Devices[job.DeviceID]?.FriendlyName || job.DeviceID.slice(0, 12)}
        </Fact>
      )}
      {job.SourceGUID && (
        <Fact label="Protected Item">{profile?.Sources[job.SourceGUID]?.Description || job.SourceGUID}</Fact>
      )}
      {job.DestinationGUID && (
        <Fact label="Storage Vault">
          <Link to="/accounts/$username/vaults/$vault" params={params} search={search}>
            {profile?.Destinations[job.DestinationGUID]?.Description || job.DestinationGUID}
          </Link>
        </Fact>
      )}
    </>
  );
}

export function JobPage() {
  const { id } = useParams({ from: '/shell/jobs/$id' });
  const query = useJob(id);
  const client = useQueryClient();
  const refresh = () => client.invalidateQueries({ queryKey: ['job', id] });
  const cancel = useMutation({ mutationFn: cancelJob, onSettled: refresh });
  const abandon = useMutation({ mutationFn: abandonJob, onSettled: refresh });
  return (
    <Loaded query={query}>
      {(job) => (
        <Page
          title={
            <Group gap="sm">
              <span>
                <Anchor component={Link} to="/jobs" inherit c="dimmed">
                  Jobs
                </Anchor>{' '}
                / {className(job.Classification)}
              </span>
              <StatusBadge status={job.Status} />
            </Group>
          }
          aside={
            isRunning(job) && (
              <>
                {isAdmin() && (
                  <Button variant="default" onClick={() => abandon.mutate(job)} loading={abandon.isPending}>
                    Abandon
                  </Button>
                )}
                <Button
                  color="red"
                  variant="light"
                  onClick={() => cancel.mutate(job)}
                  loading={cancel.isPending}
                >
                  Cancel job
                </Button>
              </>
            )
          }
        >
          <Failure error={cancel.error ?? abandon.error} />
          {isRunning(job) && <Running job={job} />}
          <SimpleGrid cols={{ base: 2, sm: 3, lg: 5 }}>
            <Fact label="Account">
              {isAdmin() ? (
                <Link to="/accounts/$username" params={{ username: job.Username }}>
                  {job.Username}
                </Link>
              ) : (
                job.Username
              )}
            </Fact>
            <Parts job={job} />
            <Fact label="Started">
              <Time unix={job.StartTime} />
            </Fact>
            <Fact label="Took">{duration((job.EndTime || Date.now() / 1000) - job.StartTime)}</Fact>
            <Fact label="Files">{job.TotalFiles.toLocaleString()}</Fact>
            <Fact label="Folders">{job.TotalDirectories.toLocaleString()}</Fact>
            <Fact label="Size">{bytes(job.TotalSize)}</Fact>
            <Fact label="Uploaded">{bytes(job.UploadSize)}</Fact>
            <Fact label="Downloaded">{bytes(job.DownloadSize)}</Fact>
            <Fact label="Vault size">{bytes(job.DestinationSizeEnd?.Size ?? 0)}</Fact>
            <Fact label="Snapshot">{job.SnapshotID ? job.SnapshotID.slice(0, 8) : '–'}</Fact>
          </SimpleGrid>
          <Log job={job} />
        </Page>
      )}
    </Loaded>
  );
}
