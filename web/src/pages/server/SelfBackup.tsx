// Where and when the server copies its own metadata to.
import { Alert, Button, Group, Text } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { call } from '../../api/client';
import { versionQuery } from '../../api/queries';
import type { SelfBackupState, SelfBackupTarget, ServerConfig } from '../../api/types';
import { Box, type Field, Fields, on } from '../../components/Fields';
import { Failure, Section, Tag, Time } from '../../components/parts';
import { RetentionEditor } from '../../components/RetentionEditor';
import { Schedules } from '../../components/Schedules';
import { t } from '../../i18n';
import { bytes } from '../../lib/format';
import { KEEP_SOME, newRange, newSchedule } from '../../lib/schedule';

/** A folder of the server: the kind of place that copies go to. */
const FOLDER = 1002;

/** A new place: a folder, every night, thirty copies. */
export const newTarget = () =>
  ({
    Location: { DestinationType: FOLDER, LocalcopyPath: '/var/backups/encke' },
    Schedule: [newSchedule()],
    ScheduleTimezone: Intl.DateTimeFormat().resolvedOptions().timeZone,
    RetentionPolicy: { Mode: KEEP_SOME, Ranges: [{ ...newRange(900), Jobs: 30 }] },
    EncryptionKey: '',
    EncryptionKeyFormat: 0,
  }) as unknown as SelfBackupTarget;

/** Where a copy goes, and what protects it. */
export const placeFields = (): Field[] => [
  {
    path: 'Location.LocalcopyPath',
    label: t('Folder on the server'),
    help: t('Best one of another disk or machine'),
    required: true,
  },
  {
    path: 'EncryptionKey',
    label: t('Password of the file'),
    help: t('Empty: not encrypted'),
    kind: 'secret',
  },
];

export const NoCopies = () => (
  <Alert color="orange" variant="light">
    {t('The server copies itself nowhere: without its database and its key nobody gets at the accounts.')}
  </Alert>
);

function State({ state }: { state: SelfBackupState | undefined }) {
  if (state?.CurrentRunStart) return <Tag tone="busy">{t('Running')}</Tag>;
  if (!state?.LastRunEnd) return <Tag tone="quiet">{t('Not yet since the start of the server')}</Tag>;
  return (
    <Group gap="xs">
      {state.LastRunSuccess ? (
        <Tag tone="good">{t('Done')}</Tag>
      ) : (
        <Tag tone="bad">{t('Failed: see the log of the server')}</Tag>
      )}
      <Text size="sm" span c="dimmed">
        <Time unix={state.LastRunEnd} />
        {state.LastRunSuccess && ` · ${bytes(state.LastRunSize)}`}
      </Text>
    </Group>
  );
}

export function SelfBackup({
  doc,
  change,
  changed,
}: {
  doc: ServerConfig;
  change: (next: ServerConfig) => void;
  /** Something is not saved yet. */
  changed: boolean;
}) {
  const client = useQueryClient();
  const version = useQuery({ ...versionQuery(), refetchInterval: 3000 });
  const now = useMutation({
    mutationFn: () => call('/api/v1/admin/self-backup/start'),
    onSuccess: () => client.invalidateQueries({ queryKey: ['version'] }),
  });
  const targets = doc.SelfBackup?.Targets ?? [];
  const set = (Targets: SelfBackupTarget[]) => change({ ...doc, SelfBackup: { ...doc.SelfBackup, Targets } });
  return (
    <Section
      title={t('Copies of the server')}
      help={t(
        'Accounts, settings, jobs and keys in one ZIP file, from which a server starts anew. The data of buckets is not in it.',
      )}
      aside={
        targets.length > 0 && (
          <Button variant="default" onClick={() => now.mutate()} loading={now.isPending} disabled={changed}>
            {t('Copy now')}
          </Button>
        )
      }
    >
      <Failure error={now.error} />
      {targets.length === 0 && <NoCopies />}
      {targets.map((one, index) => {
        const put = (next: SelfBackupTarget) => set(targets.map((old, i) => (i === index ? next : old)));
        return (
          // The list has no names of its own.
          <Box key={`${index}-${targets.length}`} remove={() => set(targets.filter((_, i) => i !== index))}>
            {!changed && <State state={version.data?.SelfBackup?.[index]} />}
            {one.Location.DestinationType !== FOLDER && (
              <Alert color="orange" variant="light">
                {t('This server copies itself into folders alone; this place is of another kind.')}
              </Alert>
            )}
            <Fields
              doc={one}
              change={put}
              fields={[
                ...placeFields(),
                { path: 'ScheduleTimezone', label: t('Time zone') },
                on('ExcludeJobsDB', t('Leave out the job history')),
                on('IncludeServerLogs', t('With the logs of the server')),
              ]}
            />
            <Schedules value={one.Schedule ?? []} set={(Schedule) => put({ ...one, Schedule })} />
            <RetentionEditor
              value={one.RetentionPolicy}
              set={(RetentionPolicy) => put({ ...one, RetentionPolicy })}
            />
          </Box>
        );
      })}
      <Button variant="default" w="fit-content" onClick={() => set([...targets, newTarget()])}>
        {t('Add place')}
      </Button>
    </Section>
  );
}
