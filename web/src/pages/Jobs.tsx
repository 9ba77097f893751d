import { SegmentedControl, TextInput } from '@mantine/core';
import { useNavigate, useSearch } from '@tanstack/react-router';
import { isAdmin, isRunning, useJobs } from '../api/queries';
import type { Job } from '../api/types';
import { JobTable } from '../components/JobTable';
import { Loaded, Page } from '../components/parts';
import { className, matches, statusName } from '../lib/format';

const FILTERS: Record<string, (job: Job) => boolean> = {
  All: () => true,
  Running: isRunning,
  Success: (job) => job.Status < 6000,
  Warning: (job) => job.Status === 7001,
  Failed: (job) => job.Status >= 7000 && job.Status !== 7001,
};

export function Jobs() {
  const jobs = useJobs();
  const { q: words = '', show: filter = 'All' } = useSearch({ from: '/shell/jobs' });
  const navigate = useNavigate();
  const go = (q: string, show: string) =>
    navigate({
      to: '/jobs',
      search: { ...(q ? { q } : {}), ...(show === 'All' ? {} : { show }) },
      replace: true,
    });
  const setFilter = (show: string) => go(words, show);
  const setWords = (q: string) => go(q, filter);
  return (
    <Page
      title={isAdmin() ? 'Job history, last 3 days' : 'Job history'}
      aside={
        <>
          <SegmentedControl
            size="xs"
            data={Object.keys(FILTERS)}
            value={filter}
            onChange={setFilter}
            aria-label="Status"
          />
          <TextInput
            placeholder="Search"
            aria-label="Search jobs"
            value={words}
            onChange={(e) => setWords(e.currentTarget.value)}
          />
        </>
      }
    >
      <Loaded query={jobs}>
        {(data) => (
          <JobTable
            jobs={data
              .filter(FILTERS[filter] ?? (() => true))
              .filter((j) =>
                matches(words, j.Username, className(j.Classification), statusName(j.Status), j.GUID),
              )}
          />
        )}
      </Loaded>
    </Page>
  );
}
