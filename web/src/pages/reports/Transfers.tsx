// How far files are that come from the server or go to it.
import { Button, Group, Modal, Progress, Stack, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import {
  download,
  exportStatus,
  type Format,
  type SavedReport,
  startExport,
  stopExport,
  type UploadProgress,
} from '../../api/reports';
import { Failure } from '../../components/parts';
import { t } from '../../i18n';
import { bytes, count } from '../../lib/format';

/** A file that is made so fast needs no dialog. */
const PATIENCE = 700;
const LOOK = 400;

/** Makes a file of a report and hands it to the browser; says how far it is when that takes a while. */
export function ExportDialog({
  report,
  format,
  close,
}: {
  report: SavedReport;
  format: Format;
  close: () => void;
}) {
  const [visible, setVisible] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setVisible(true), PATIENCE);
    return () => clearTimeout(timer);
  }, []);
  const started = useQuery({
    queryKey: ['report-export', report.ReportID, format],
    queryFn: () => startExport(report, format),
    gcTime: 0,
    staleTime: Number.POSITIVE_INFINITY,
    retry: false,
  });
  const id = started.data;
  const status = useQuery({
    queryKey: ['report-export-status', id],
    queryFn: () => exportStatus(id ?? ''),
    enabled: id !== undefined,
    gcTime: 0,
    refetchInterval: ({ state }) =>
      state.data?.State === 'done' || state.data?.State === 'failed' ? false : LOOK,
  });
  const now = status.data;
  const fetched = useQuery({
    queryKey: ['report-export-file', id],
    queryFn: async () => {
      await download(id ?? '', report, format);
      close();
      return true;
    },
    enabled: now?.State === 'done',
    gcTime: 0,
    retry: false,
  });
  const failed = now?.State === 'failed' ? new Error(now.Message) : null;
  const error = started.error ?? status.error ?? failed ?? fetched.error;
  const stop = () => {
    // An export that is gone already needs no stopping.
    if (id) stopExport(id).catch(() => undefined);
    close();
  };
  const total = now?.Total ?? 0;
  const share = total > 0 ? ((now?.Rows ?? 0) / total) * 100 : 100;
  const text = () => {
    if (now?.State === 'file') {
      return t('Writing the file: {n} of {all} rows', { n: count(now.Rows), all: count(total) });
    }
    if (now?.State === 'done') return t('Fetching {size}', { size: bytes(now.Bytes ?? 0) });
    return t('Fetching rows: {n}', { n: count(now?.Rows ?? 0) });
  };
  return (
    <Modal
      opened={visible || error !== null}
      onClose={stop}
      title={t('Export {name}', { name: report.Name })}
    >
      <Stack gap="sm">
        <Failure error={error} />
        {!error && (
          <>
            <Progress
              value={share}
              animated={now?.State !== 'file'}
              striped={now?.State !== 'file'}
              aria-label={t('Progress')}
            />
            <Text size="sm" role="status">
              {text()}
            </Text>
          </>
        )}
        <Group justify="flex-end">
          <Button variant="default" onClick={stop}>
            {error ? t('Close') : t('Stop')}
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}

/** How far an upload is. */
export function Uploading({ progress }: { progress: UploadProgress }) {
  const isSent = progress.sent >= progress.of;
  return (
    <Stack gap={4}>
      <Progress
        value={progress.of > 0 ? (progress.sent / progress.of) * 100 : 100}
        animated={isSent}
        striped={isSent}
        aria-label={t('Progress')}
      />
      <Text size="sm" role="status">
        {isSent
          ? t('Loading the rows')
          : t('{n} of {all}', { n: bytes(progress.sent), all: bytes(progress.of) })}
      </Text>
    </Stack>
  );
}
