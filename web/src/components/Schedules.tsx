import {
  ActionIcon,
  Button,
  Chip,
  Group,
  NumberInput,
  Select,
  Stack,
  Switch,
  Text,
  TextInput,
} from '@mantine/core';
import type { Schedule } from '../api/types';
import { t } from '../i18n';
import {
  DAILY,
  DAYS,
  dayName,
  HOURLY,
  MONTHLY,
  monthName,
  newSchedule,
  ONCE,
  PERIODIC,
  scheduleText,
  secondsOf,
  timeOf,
  WEEKLY,
  YEARLY,
} from '../lib/schedule';
import { Close, Plus } from './icons';

const DAY = 86_400;

const frequencies = () => [
  { value: String(DAILY), label: t('Daily') },
  { value: String(WEEKLY), label: t('Weekly') },
  { value: String(MONTHLY), label: t('Monthly') },
  { value: String(YEARLY), label: t('Yearly') },
  { value: String(HOURLY), label: t('Hourly') },
  { value: String(PERIODIC), label: t('Periodic') },
  { value: String(ONCE), label: t('Once') },
];

/** A moment as `datetime-local` wants it, in the browser's zone. */
const localText = (unix: number) => {
  const d = new Date(unix * 1000);
  return new Date(d.getTime() - d.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
};

function Time({ value, set, label }: { value: number; set: (seconds: number) => void; label: string }) {
  return (
    <TextInput
      type="time"
      w={140}
      label={label}
      value={timeOf(value)}
      onChange={(e) => e.currentTarget.value && set(secondsOf(e.currentTarget.value))}
    />
  );
}

function One({ value, set, remove }: { value: Schedule; set: (next: Schedule) => void; remove: () => void }) {
  const type = value.FrequencyType;
  const day = Math.floor(value.SecondsPast / DAY);
  const at = (seconds: number) => set({ ...value, SecondsPast: seconds });
  return (
    <div className="box">
      <Group gap="xs" align="flex-end">
        <Select
          w={130}
          label={t('How often')}
          data={frequencies()}
          value={String(type)}
          onChange={(next) => set(newSchedule(Number(next)))}
        />
        {type === WEEKLY && (
          <Select
            w={140}
            label={t('Day')}
            data={DAYS.map((_, i) => ({ value: String(i), label: dayName(i) }))}
            value={String(day % 7)}
            onChange={(next) => at(Number(next) * DAY + (value.SecondsPast % DAY))}
          />
        )}
        {type === YEARLY && (
          <Select
            w={140}
            label={t('Month')}
            data={Array.from({ length: 12 }, (_, i) => ({ value: String(i + 1), label: monthName(i + 1) }))}
            value={String(value.SelectedMonth || 1)}
            onChange={(next) => set({ ...value, SelectedMonth: Number(next) })}
          />
        )}
        {(type === MONTHLY || type === YEARLY) && (
          <NumberInput
            w={90}
            label={t('Day')}
            min={1}
            max={31}
            value={value.SelectedDay || 1}
            onChange={(n) => set({ ...value, SelectedDay: Number(n) || 1 })}
          />
        )}
        {(type === DAILY || type === MONTHLY || type === YEARLY) && (
          <Time label={t('At')} value={value.SecondsPast} set={at} />
        )}
        {type === WEEKLY && (
          <Time label={t('At')} value={value.SecondsPast % DAY} set={(s) => at((day % 7) * DAY + s)} />
        )}
        {type === HOURLY && (
          <NumberInput
            w={140}
            label={t('Minutes past')}
            min={0}
            max={59}
            value={Math.floor(value.SecondsPast / 60)}
            onChange={(n) => at((Number(n) || 0) * 60)}
          />
        )}
        {type === PERIODIC && (
          <NumberInput
            w={140}
            label={t('Every')}
            suffix=" min"
            min={1}
            value={Math.round(value.SecondsPast / 60)}
            onChange={(n) => at(Math.max(1, Number(n) || 1) * 60)}
          />
        )}
        {type === ONCE && (
          <TextInput
            type="datetime-local"
            label={t('At')}
            value={localText(value.SecondsPast)}
            onChange={(e) => {
              const next = Date.parse(e.currentTarget.value);
              if (!Number.isNaN(next)) at(Math.floor(next / 1000));
            }}
          />
        )}
        <NumberInput
          w={150}
          label={t('Random delay')}
          suffix=" min"
          min={0}
          max={300}
          value={Math.round((value.RandomDelaySecs ?? 0) / 60)}
          onChange={(n) => set({ ...value, RandomDelaySecs: Math.min(18_000, (Number(n) || 0) * 60) })}
        />
        <ActionIcon ml="auto" onClick={remove} aria-label={t('Remove this schedule')}>
          <Close size={16} />
        </ActionIcon>
      </Group>
      {type === HOURLY && (
        <Stack gap={6} mt="xs">
          <Switch
            size="xs"
            label={t('Only on some days')}
            checked={value.RestrictDays}
            onChange={(e) => set({ ...value, RestrictDays: e.currentTarget.checked })}
          />
          {value.RestrictDays && (
            <Group gap={4}>
              {DAYS.map((name, i) => (
                <Chip
                  key={name}
                  size="xs"
                  checked={value.DaysSelect?.[name] ?? false}
                  onChange={(on) => set({ ...value, DaysSelect: { ...value.DaysSelect, [name]: on } })}
                >
                  {dayName(i, 'short')}
                </Chip>
              ))}
            </Group>
          )}
          <Switch
            size="xs"
            label={t('Only at some time of the day')}
            checked={value.RestrictRuntime}
            onChange={(e) => set({ ...value, RestrictRuntime: e.currentTarget.checked })}
          />
          {value.RestrictRuntime && (
            <Group gap="xs">
              <Time
                label={t('From')}
                value={value.FromTime.Hour * 3600 + value.FromTime.Minutes * 60}
                set={(s) =>
                  set({
                    ...value,
                    FromTime: { Hour: Math.floor(s / 3600), Minutes: Math.floor((s % 3600) / 60) },
                  })
                }
              />
              <Time
                label={t('To')}
                value={value.ToTime.Hour * 3600 + value.ToTime.Minutes * 60}
                set={(s) =>
                  set({
                    ...value,
                    ToTime: { Hour: Math.floor(s / 3600), Minutes: Math.floor((s % 3600) / 60) },
                  })
                }
              />
            </Group>
          )}
        </Stack>
      )}
      <Text size="xs" c="dimmed" mt={6}>
        {scheduleText(value)}
      </Text>
    </div>
  );
}

/** When something runs: any number of schedules, in the device's own time. */
export function Schedules({ value, set }: { value: Schedule[]; set: (next: Schedule[]) => void }) {
  return (
    <Stack gap="xs">
      {value.map((schedule, index) => (
        <One
          // The list has no names of its own.
          key={`${index}-${value.length}`}
          value={schedule}
          set={(next) => set(value.map((old, i) => (i === index ? next : old)))}
          remove={() => set(value.filter((_, i) => i !== index))}
        />
      ))}
      <Button
        variant="default"
        w="fit-content"
        leftSection={<Plus size={14} />}
        onClick={() => set([...value, newSchedule()])}
      >
        {t('Add schedule')}
      </Button>
    </Stack>
  );
}
