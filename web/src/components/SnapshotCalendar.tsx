import '@mantine/dates/styles.css';
import 'dayjs/locale/de';
import 'dayjs/locale/es';
import 'dayjs/locale/fr';
import 'dayjs/locale/pt';
import { Group, Stack, Text, UnstyledButton } from '@mantine/core';
import { Calendar, DatesProvider } from '@mantine/dates';
import { useMemo, useState } from 'react';
import type { Snapshot } from '../api/types';
import { language, plural, t } from '../i18n';
import { clock } from '../lib/format';

const dayOf = (unix: number) => {
  const d = new Date(unix * 1000);
  const two = (n: number) => String(n).padStart(2, '0');
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
};

/** The days that have snapshots, and those of one day. */
export function SnapshotCalendar({
  list,
  chosen,
  choose,
}: {
  list: Snapshot[];
  chosen: Snapshot;
  choose: (snapshot: string) => void;
}) {
  const days = useMemo(() => {
    const out = new Map<string, Snapshot[]>();
    for (const s of list) out.set(dayOf(s.CreateTime), [...(out.get(dayOf(s.CreateTime)) ?? []), s]);
    return out;
  }, [list]);
  const [day, setDay] = useState(dayOf(chosen.CreateTime));
  const there = days.get(day) ?? [];
  return (
    <Group align="flex-start" gap="lg" className="card">
      <DatesProvider settings={{ locale: language(), firstDayOfWeek: language() === 'en' ? 0 : 1 }}>
        <Calendar
          defaultDate={day}
          maxLevel="year"
          ariaLabels={{
            nextMonth: t('Next month'),
            previousMonth: t('Previous month'),
            nextYear: t('Next year'),
            previousYear: t('Previous year'),
            monthLevelControl: t('Choose the month'),
          }}
          getDayProps={(date) => {
            const n = days.get(date)?.length ?? 0;
            return {
              selected: date === day,
              disabled: n === 0,
              onClick: () => setDay(date),
              'aria-label': `${date}: ${plural(n, '{n} snapshot', '{n} snapshots')}`,
              'data-has': n > 0 || undefined,
            };
          }}
        />
      </DatesProvider>
      <Stack gap={2} miw={160}>
        <Text size="sm" fw={600}>
          {plural(there.length, '{n} snapshot', '{n} snapshots')}
        </Text>
        {there.map((s) => (
          <UnstyledButton
            key={s.Snapshot}
            className="line"
            aria-pressed={s.Snapshot === chosen.Snapshot}
            onClick={() => choose(s.Snapshot)}
          >
            {clock(s.CreateTime)} <span className="dimmed">{s.Snapshot.slice(0, 8)}</span>
          </UnstyledButton>
        ))}
      </Stack>
    </Group>
  );
}
