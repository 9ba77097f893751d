import { Table } from '@mantine/core';
import { Link } from '@tanstack/react-router';
import { useVirtualizer } from '@tanstack/react-virtual';
import { useRef } from 'react';
import { isRunning } from '../api/queries';
import type { Job } from '../api/types';
import { bytes, className, duration } from '../lib/format';
import { Empty, StatusBadge, Time } from './parts';

const ROW = 37;

/** Jobs, newest first. Only the rows in view exist, however long the list. */
export function JobTable({ jobs, limit }: { jobs: Job[]; limit?: number }) {
  const box = useRef<HTMLDivElement>(null);
  const sorted = [...jobs].sort((a, b) => b.StartTime - a.StartTime).slice(0, limit);
  const rows = useVirtualizer({
    count: sorted.length,
    getScrollElement: () => box.current,
    estimateSize: () => ROW,
    overscan: 12,
    initialRect: { width: 800, height: 600 },
  });
  if (sorted.length === 0) return <Empty>No jobs yet. Run a backup from an account's page.</Empty>;
  const shown = rows.getVirtualItems();
  const above = shown[0]?.start ?? 0;
  const below = rows.getTotalSize() - (shown.at(-1)?.end ?? 0);
  return (
    <div ref={box} className="rows">
      <Table highlightOnHover verticalSpacing={6} miw={720}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Status</Table.Th>
            <Table.Th>Kind</Table.Th>
            <Table.Th>Account</Table.Th>
            <Table.Th>Started</Table.Th>
            <Table.Th>Took</Table.Th>
            <Table.Th ta="right">Files</Table.Th>
            <Table.Th ta="right">Size</Table.Th>
            <Table.Th ta="right">Uploaded</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {above > 0 && <tr style={{ height: above }} />}
          {shown.map(({ index }) => {
            const job = sorted[index];
            if (!job) return null;
            const end = job.EndTime || Date.now() / 1000;
            return (
              <Table.Tr key={job.GUID}>
                <Table.Td>
                  <Link to="/jobs/$id" params={{ id: job.GUID }} className="plain">
                    <StatusBadge status={job.Status} />
                  </Link>
                </Table.Td>
                <Table.Td>
                  <Link to="/jobs/$id" params={{ id: job.GUID }} className="plain">
                    {className(job.Classification)}
                  </Link>
                </Table.Td>
                <Table.Td>{job.Username}</Table.Td>
                <Table.Td>
                  <Time unix={job.StartTime} />
                </Table.Td>
                <Table.Td>{duration(end - job.StartTime)}</Table.Td>
                <Table.Td ta="right">
                  {(isRunning(job) ? (job.Progress?.ItemsDone ?? 0) : job.TotalFiles).toLocaleString()}
                </Table.Td>
                <Table.Td ta="right">
                  {bytes(isRunning(job) ? (job.Progress?.BytesDone ?? 0) : job.TotalSize)}
                </Table.Td>
                <Table.Td ta="right">{bytes(job.UploadSize)}</Table.Td>
              </Table.Tr>
            );
          })}
          {below > 0 && <tr style={{ height: below }} />}
        </Table.Tbody>
      </Table>
    </div>
  );
}
