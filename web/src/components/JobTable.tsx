import { Link, useRouter } from '@tanstack/react-router';
import type { ReactNode } from 'react';
import { isAdmin, isRunning } from '../api/queries';
import type { Job } from '../api/types';
import { t } from '../i18n';
import { bytes, className, count, duration, exact, statusName } from '../lib/format';
import { type Column, DataTable } from './DataTable';
import { StatusBadge, Time } from './parts';

const end = (job: Job) => job.EndTime || Date.now() / 1000;

/** How much of what has been found so far is done. */
function Meter({ job }: { job: Job }) {
  const { ItemsDone: done = 0, ItemsTotal: total = 0 } = job.Progress ?? {};
  if (!isRunning(job) || total === 0) return null;
  const percent = Math.min(100, Math.round((100 * done) / total));
  return (
    <span
      className="meter"
      role="progressbar"
      aria-label={t('Progress')}
      aria-valuenow={percent}
      title={t('{n} of {all}', { n: count(done), all: count(total) })}
    >
      <span style={{ width: `${percent}%` }} />
    </span>
  );
}

/** Jobs, newest first. */
export function JobTable({
  jobs,
  limit,
  name = 'jobs',
  aside,
}: {
  jobs: Job[];
  limit?: number;
  name?: string;
  aside?: ReactNode;
}) {
  const { history } = useRouter();
  const address = (job: Job) => ({ to: '/jobs/$id' as const, params: { id: job.GUID }, className: 'plain' });
  const columns: Column<Job>[] = [
    {
      key: 'status',
      label: t('Status'),
      width: 140,
      value: (job) => statusName(job.Status),
      cell: (job) => (
        <Link {...address(job)}>
          <StatusBadge status={job.Status} />
          <Meter job={job} />
        </Link>
      ),
    },
    {
      key: 'kind',
      label: t('Kind'),
      width: 120,
      value: (job) => className(job.Classification),
      cell: (job) => <Link {...address(job)}>{className(job.Classification)}</Link>,
    },
    {
      key: 'account',
      label: t('Account'),
      width: 160,
      hidden: !isAdmin(),
      value: (job) => job.Username,
      cell: (job) =>
        isAdmin() ? (
          <Link to="/accounts/$username" params={{ username: job.Username }}>
            {job.Username}
          </Link>
        ) : (
          job.Username
        ),
    },
    {
      key: 'started',
      label: t('Started'),
      width: 140,
      descending: true,
      value: (job) => job.StartTime,
      cell: (job) => <Time unix={job.StartTime} />,
    },
    {
      key: 'took',
      label: t('Took'),
      width: 110,
      descending: true,
      value: (job) => Math.round(end(job) - job.StartTime),
      cell: (job) => duration(end(job) - job.StartTime),
    },
    {
      key: 'files',
      label: t('Files'),
      width: 90,
      right: true,
      descending: true,
      value: (job) => (isRunning(job) ? (job.Progress?.ItemsDone ?? 0) : job.TotalFiles),
      cell: (job) => count(isRunning(job) ? (job.Progress?.ItemsDone ?? 0) : job.TotalFiles),
    },
    {
      key: 'size',
      label: t('Size'),
      width: 100,
      right: true,
      descending: true,
      value: (job) => (isRunning(job) ? (job.Progress?.BytesDone ?? 0) : job.TotalSize),
      cell: (job) => bytes(isRunning(job) ? (job.Progress?.BytesDone ?? 0) : job.TotalSize),
    },
    {
      key: 'uploaded',
      label: t('Uploaded'),
      width: 100,
      right: true,
      descending: true,
      value: (job) => job.UploadSize,
      cell: (job) => bytes(job.UploadSize),
    },
    {
      key: 'downloaded',
      label: t('Downloaded'),
      width: 100,
      right: true,
      hidden: true,
      value: (job) => job.DownloadSize,
      cell: (job) => bytes(job.DownloadSize),
    },
    {
      key: 'ended',
      label: t('Ended'),
      width: 160,
      hidden: true,
      value: (job) => job.EndTime,
      cell: (job) => exact(job.EndTime),
    },
    { key: 'device', label: t('Device ID'), width: 200, hidden: true, value: (job) => job.DeviceID },
    { key: 'version', label: t('Version'), width: 100, hidden: true, value: (job) => job.ClientVersion },
    { key: 'id', label: t('Job ID'), width: 290, hidden: true, value: (job) => job.GUID },
  ];
  return (
    <DataTable
      name={name}
      label={t('Jobs')}
      rows={jobs}
      columns={columns}
      id={(job) => job.GUID}
      sort="started"
      limit={limit}
      plain={limit !== undefined}
      aside={aside}
      open={(job) => history.push(`/jobs/${job.GUID}`)}
      empty={t("No jobs yet. Run a backup from an account's page.")}
    />
  );
}
