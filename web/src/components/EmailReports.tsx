// Which reports an address gets, and when.
import { Button, Group, NumberInput, Select, Stack, Switch, Text } from '@mantine/core';
import type { EmailReport } from '../api/types';
import { t } from '../i18n';
import { group } from '../lib/clauses';
import { DAILY, newSchedule, scheduleText } from '../lib/schedule';
import { Plus } from './icons';
import { Schedules } from './Schedules';
import { SearchBuilder } from './SearchBuilder';

const types = () => [
  { value: '0', label: t('Each backup, when it ends') },
  { value: '1', label: t('Summary of backups') },
  { value: '2', label: t('Grouped by status') },
  { value: '3', label: t('Recent activity') },
];

export const newReport = (type = 0): EmailReport => ({
  ReportType: type,
  SummaryFrequency: type === 0 ? [] : [{ ...newSchedule(DAILY), SecondsPast: 8 * 3600 }],
  Filter: group('and', []),
  ...(type === 0 ? {} : { TimeSpan: { FrequencyType: DAILY, Seconds: 86_400 } }),
});

/** A report in a few words. */
export const reportText = (r: EmailReport) =>
  [
    types().find((x) => x.value === String(r.ReportType))?.label ?? String(r.ReportType),
    ...(r.SummaryFrequency ?? []).map(scheduleText),
  ].join(', ');

/** One report. */
export function ReportFields({
  report,
  change,
  remove,
}: {
  report: EmailReport;
  change: (next: EmailReport) => void;
  remove: () => void;
}) {
  const filter = report.Filter ?? group('and', []);
  const filtered = (filter.ClauseChildren ?? []).length > 0 || filter.RuleField !== '';
  return (
    <Stack gap="xs">
      <Group gap="xs" align="flex-end">
        <Select
          w={240}
          label={t('Report')}
          data={types()}
          value={String(report.ReportType)}
          onChange={(next) => change(newReport(Number(next)))}
        />
        {report.ReportType !== 0 && (
          <NumberInput
            w={150}
            label={t('Looks back')}
            suffix=" h"
            min={1}
            value={Math.round((report.TimeSpan?.Seconds ?? 86_400) / 3600)}
            onChange={(n) =>
              change({
                ...report,
                TimeSpan: {
                  FrequencyType: report.TimeSpan?.FrequencyType ?? DAILY,
                  Seconds: (Number(n) || 1) * 3600,
                },
              })
            }
          />
        )}
        <Button ml="auto" size="compact-sm" variant="subtle" color="red" onClick={remove}>
          {t('Remove')}
        </Button>
      </Group>
      {report.ReportType !== 0 && (
        <Schedules
          value={report.SummaryFrequency ?? []}
          set={(next) => change({ ...report, SummaryFrequency: next })}
        />
      )}
      <Switch
        size="xs"
        label={t('Only some jobs')}
        checked={filtered}
        onChange={(e) =>
          change({
            ...report,
            Filter: e.currentTarget.checked
              ? group('and', [
                  {
                    ClauseType: '',
                    RuleField: 'BackupJobDetail.Status',
                    RuleOperator: 'int_neq',
                    RuleValue: '5000',
                    ClauseChildren: [],
                  },
                ])
              : group('and', []),
          })
        }
      />
      {filtered && <SearchBuilder clause={filter} set={(next) => change({ ...report, Filter: next })} />}
    </Stack>
  );
}

export function EmailReports({
  value,
  set,
  preview,
}: {
  value: EmailReport[];
  set: (next: EmailReport[]) => void;
  /** Shows a report as it would be now. */
  preview?: (index: number) => void;
}) {
  return (
    <Stack gap="xs">
      {value.map((report, index) => (
        <div
          className="box"
          // The list has no names of its own.
          key={`${index}-${value.length}`}
        >
          <Stack gap="xs">
            <ReportFields
              report={report}
              change={(next) => set(value.map((old, i) => (i === index ? next : old)))}
              remove={() => set(value.filter((_, i) => i !== index))}
            />
            {preview && (
              <Button variant="default" size="compact-sm" w="fit-content" onClick={() => preview(index)}>
                {t('Preview')}
              </Button>
            )}
          </Stack>
        </div>
      ))}
      {value.length === 0 && (
        <Text size="sm" c="dimmed">
          {t('No report: this address gets nothing.')}
        </Text>
      )}
      <Button
        variant="default"
        w="fit-content"
        leftSection={<Plus size={14} />}
        onClick={() => set([...value, newReport()])}
      >
        {t('Add report')}
      </Button>
    </Stack>
  );
}
