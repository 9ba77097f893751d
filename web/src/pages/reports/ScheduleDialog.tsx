// When a report is sent by e-mail, and to whom.
import { Button, Divider, Group, Modal, Select, Stack, TagsInput, Text } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { call } from '../../api/client';
import { type Format, locale, path, type ReportSchedule, type SavedReport } from '../../api/reports';
import { Actions, Failure, Loaded, Time } from '../../components/parts';
import { Schedules } from '../../components/Schedules';
import { t } from '../../i18n';
import { DAILY, newSchedule } from '../../lib/schedule';

const MORNING = 8 * 3600;

const formats: { value: Format; label: string }[] = [
  { value: 'pdf', label: 'PDF' },
  { value: 'xlsx', label: 'XLSX' },
  { value: 'csv', label: 'CSV' },
  { value: 'parquet', label: 'Parquet' },
];

function ScheduleForm({
  report,
  first,
  close,
}: {
  report: SavedReport;
  first: ReportSchedule | undefined;
  close: () => void;
}) {
  const client = useQueryClient();
  const [times, setTimes] = useState(first?.Schedules ?? [{ ...newSchedule(DAILY), SecondsPast: MORNING }]);
  const [to, setTo] = useState(first?.Recipients ?? []);
  const [format, setFormat] = useState<Format>(first?.Format ?? 'pdf');
  const zone = first?.TimeZone ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
  const refresh = () => client.invalidateQueries({ queryKey: ['report-schedules'] });
  const save = useMutation({
    mutationFn: () =>
      call(path('save-schedule'), {
        ScheduleID: first?.ScheduleID,
        ReportID: report.ReportID,
        Schedules: times,
        TimeZone: zone,
        Recipients: to.join(','),
        Format: format,
        Locale: locale().replace('-', '_'),
      }),
    onSuccess: async () => {
      await refresh();
      close();
    },
  });
  const of = { ScheduleID: first?.ScheduleID };
  const remove = useMutation({
    mutationFn: () => call(path('delete-schedule'), of),
    onSuccess: async () => {
      await refresh();
      close();
    },
  });
  const now = useMutation({ mutationFn: () => call(path('send-now'), of), onSuccess: refresh });
  return (
    <Stack gap="sm">
      <Failure error={save.error ?? remove.error ?? now.error} />
      <TagsInput
        label={t('To')}
        placeholder={t('Addresses, then Enter')}
        value={to}
        onChange={setTo}
        acceptValueOnBlur
        data-autofocus
      />
      <Select
        label={t('File')}
        description={t('A file that is too large for a mail is fetched by a link, which is good for a week.')}
        data={formats}
        value={format}
        allowDeselect={false}
        onChange={(next) => setFormat((next ?? 'pdf') as Format)}
      />
      <Text size="sm" c="dimmed">
        {t('Times of {zone}', { zone })}
      </Text>
      <Schedules value={times} set={setTimes} />
      {first && (
        <>
          <Divider />
          {first.Problem && (
            <Text size="sm" c="red" role="alert">
              {first.Problem}
            </Text>
          )}
          <Group gap="xs">
            <Text size="sm">{t('Sent last')}</Text>
            <Time unix={first.Sent} />
            <Text size="sm">{t('Next time')}</Text>
            <Time unix={first.Next} />
          </Group>
          <Group gap="xs">
            <Button variant="default" loading={now.isPending} onClick={() => now.mutate()}>
              {t('Send now')}
            </Button>
            <Button variant="light" color="red" loading={remove.isPending} onClick={() => remove.mutate()}>
              {t('Stop sending')}
            </Button>
          </Group>
        </>
      )}
      <Actions
        close={close}
        action={t('Save')}
        busy={save.isPending}
        disabled={to.length === 0 || times.length === 0}
        onClick={() => save.mutate()}
      />
    </Stack>
  );
}

export function ScheduleDialog({ report, close }: { report: SavedReport; close: () => void }) {
  const all = useQuery({
    queryKey: ['report-schedules'],
    queryFn: () => call<ReportSchedule[]>(path('list-schedules')),
    refetchInterval: 5000,
  });
  return (
    <Modal opened onClose={close} size="lg" title={t('Send {name} by e-mail', { name: report.Name })}>
      <Loaded query={all}>
        {(data) => {
          const first = data.find((s) => s.ReportID === report.ReportID);
          return <ScheduleForm key={first?.ScheduleID ?? ''} report={report} first={first} close={close} />;
        }}
      </Loaded>
    </Modal>
  );
}
