import { Button, Group, Progress, SimpleGrid, Text } from '@mantine/core';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { Link, useParams } from '@tanstack/react-router';
import { callText } from '../api/client';
import {
  abandonJob,
  base,
  cancelJob,
  isAdmin,
  isRunning,
  useJob,
  useJobLog,
  useProfile,
} from '../api/queries';
import type { Job } from '../api/types';
import { DangerButton } from '../components/Danger';
import { AnchorLink } from '../components/links';
import {
  CopyIcon,
  Empty,
  Fact,
  Failure,
  Loaded,
  Page,
  Section,
  StatusBadge,
  Time,
} from '../components/parts';
import { Severity } from '../components/Severity';
import { t } from '../i18n';
import { bytes, className, clock, count, download, duration, exact } from '../lib/format';
import { useParam } from '../lib/search';

function Running({ job }: { job: Job }) {
  const done = job.Progress?.ItemsDone ?? 0;
  const total = Math.max(job.Progress?.ItemsTotal ?? 0, 1);
  return (
    <div>
      <Progress value={Math.min(100, (done / total) * 100)} animated aria-label={t('Progress')} />
      <Text size="sm" mt={6} data-testid="progress">
        {t('{done} of {total} files found so far, {read} read, {sent} uploaded', {
          done: count(done),
          total: count(total),
          read: bytes(job.Progress?.BytesDone ?? 0),
          sent: bytes(job.UploadSize),
        })}
      </Text>
    </div>
  );
}

function Log({ job }: { job: Job }) {
  const log = useJobLog(job.GUID, isRunning(job));
  const [least, setLeast] = useParam('show');
  const shown = { warnings: 'WE', errors: 'E' }[least] ?? 'DIWE';
  const save = useMutation({
    mutationFn: () => callText(`${base()}/get-job-log`, { JobID: job.GUID }),
    onSuccess: (text) => download(`${job.GUID}.log`, text, 'text/plain'),
  });
  return (
    <Section
      title={t('Log')}
      aside={
        <>
          <Severity value={least} set={setLeast} />
          <Button variant="default" onClick={() => save.mutate()} loading={save.isPending}>
            {t('Download')}
          </Button>
        </>
      }
    >
      <Failure error={save.error} />
      <Loaded query={log}>
        {(entries) => {
          const lines = entries.filter((e) => shown.includes(e.Severity));
          if (lines.length === 0) return <Empty>{t('Nothing to show.')}</Empty>;
          return (
            <div className="card log" role="log" tabIndex={0}>
              {lines.map((entry, at) => (
                <div key={at} className={entry.Severity}>
                  <time title={exact(entry.Time)}>{clock(entry.Time)}</time>
                  {entry.Message}
                </div>
              ))}
            </div>
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
        <Fact label={t('Device')}>
          {profile?.Devices[job.DeviceID]?.FriendlyName || job.DeviceID.slice(0, 12)}
        </Fact>
      )}
      {job.SourceGUID && (
        <Fact label={t('Protected Item')}>
          <Link
            to="/accounts/$username/items/$item"
            params={{ username: job.Username, item: job.SourceGUID }}
          >
            {profile?.Sources[job.SourceGUID]?.Description || job.SourceGUID}
          </Link>
        </Fact>
      )}
      {job.DestinationGUID && (
        <Fact label={t('Storage Vault')}>
          <Link to="/accounts/$username/vaults/$vault" params={params} search={search}>
            {profile?.Destinations[job.DestinationGUID]?.Description || job.DestinationGUID}
          </Link>
        </Fact>
      )}
    </>
  );
}

export function JobPage() {
  const { id = '' } = useParams({ strict: false });
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
                <AnchorLink to="/jobs" inherit c="dimmed">
                  {t('Jobs')}
                </AnchorLink>{' '}
                / {className(job.Classification)}
              </span>
              <StatusBadge status={job.Status} />
              <CopyIcon value={job.GUID} label={t('Copy the job ID')} />
            </Group>
          }
          aside={
            isRunning(job) && (
              <>
                {isAdmin() && (
                  <DangerButton
                    label={t('Abandon')}
                    dialog="abandon"
                    button={{ variant: 'default', size: 'xs', color: 'gray' }}
                    title={t('Abandon the job')}
                    text={t('Only the record ends. Use it where the device will never report again.')}
                    run={() => abandon.mutateAsync(job)}
                  />
                )}
                <Button
                  color="red"
                  variant="light"
                  onClick={() => cancel.mutate(job)}
                  loading={cancel.isPending}
                >
                  {t('Cancel job')}
                </Button>
              </>
            )
          }
        >
          <Failure error={cancel.error ?? abandon.error} />
          {isRunning(job) && <Running job={job} />}
          <SimpleGrid cols={{ base: 2, sm: 3, lg: 5 }} className="card">
            <Fact label={t('Account')}>
              {isAdmin() ? (
                <Link to="/accounts/$username" params={{ username: job.Username }}>
                  {job.Username}
                </Link>
              ) : (
                job.Username
              )}
            </Fact>
            <Parts job={job} />
            <Fact label={t('Started')}>
              <Time unix={job.StartTime} />
            </Fact>
            <Fact label={t('Took')}>{duration((job.EndTime || Date.now() / 1000) - job.StartTime)}</Fact>
            <Fact label={t('Files')}>
              {count(isRunning(job) ? (job.Progress?.ItemsDone ?? 0) : job.TotalFiles)}
            </Fact>
            <Fact label={t('Folders')}>{count(job.TotalDirectories)}</Fact>
            <Fact label={t('Size')}>
              {bytes(isRunning(job) ? (job.Progress?.BytesDone ?? 0) : job.TotalSize)}
            </Fact>
            <Fact label={t('Uploaded')}>{bytes(job.UploadSize)}</Fact>
            <Fact label={t('Downloaded')}>{bytes(job.DownloadSize)}</Fact>
            <Fact label={t('Vault size')}>{bytes(job.DestinationSizeEnd?.Size ?? 0)}</Fact>
            <Fact label={t('Snapshot')}>{job.SnapshotID ? job.SnapshotID.slice(0, 8) : '–'}</Fact>
          </SimpleGrid>
          <Log job={job} />
        </Page>
      )}
    </Loaded>
  );
}
