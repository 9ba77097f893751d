import {
  ActionIcon,
  Button,
  Group,
  NumberInput,
  SegmentedControl,
  Select,
  Stack,
  Text,
  TextInput,
} from '@mantine/core';
import type { Retention, RetentionRange } from '../api/types';
import { t } from '../i18n';
import { DAYS, dayName, KEEP_ALL, KEEP_SOME, newRange, RANGES, rangeName, rangeText } from '../lib/schedule';
import { Close, Plus } from './icons';

type NumberKey = 'Jobs' | 'Days' | 'Weeks' | 'Months' | 'Years' | 'MonthOffset' | 'YearOffset';

const NEEDS: Record<number, NumberKey[]> = {
  900: ['Jobs'],
  902: ['Days', 'Weeks', 'Months', 'Years'],
  903: ['Days'],
  905: ['Months', 'MonthOffset'],
  906: ['Weeks'],
  907: ['Jobs'],
  908: ['Jobs'],
  909: ['Jobs'],
  910: ['Jobs'],
  911: ['Years', 'YearOffset'],
};

function labelOf(key: NumberKey): string {
  switch (key) {
    case 'Jobs':
      return t('How many');
    case 'Days':
      return t('Days');
    case 'Weeks':
      return t('Weeks');
    case 'Months':
      return t('Months');
    case 'Years':
      return t('Years');
    case 'MonthOffset':
      return t('Day of the month');
    case 'YearOffset':
      return t('Day of the year');
  }
}

function Range({
  value,
  set,
  remove,
}: {
  value: RetentionRange;
  set: (next: RetentionRange) => void;
  remove: () => void;
}) {
  return (
    <div className="box">
      <Group gap="xs" align="flex-end">
        <Select
          w={260}
          label={t('Keep')}
          data={RANGES.map((type) => ({ value: String(type), label: rangeName(type) }))}
          value={String(value.Type)}
          onChange={(next) => set(newRange(Number(next)))}
        />
        {(NEEDS[value.Type] ?? []).map((key) => (
          <NumberInput
            key={key}
            w={110}
            label={labelOf(key)}
            min={0}
            max={key === 'MonthOffset' ? 31 : undefined}
            value={value[key]}
            onChange={(n) => set({ ...value, [key]: Number(n) || 0 })}
          />
        ))}
        {value.Type === 906 && (
          <Select
            w={140}
            label={t('Day')}
            data={DAYS.map((_, i) => ({ value: String(i), label: dayName(i) }))}
            value={String(value.WeekOffset)}
            onChange={(next) => set({ ...value, WeekOffset: Number(next) })}
          />
        )}
        {value.Type === 901 && (
          <TextInput
            type="date"
            label={t('Since')}
            value={new Date(value.Timestamp * 1000).toISOString().slice(0, 10)}
            onChange={(e) => {
              const next = Date.parse(e.currentTarget.value);
              if (!Number.isNaN(next)) set({ ...value, Timestamp: next / 1000 });
            }}
          />
        )}
        <ActionIcon ml="auto" onClick={remove} aria-label={t('Remove this range')}>
          <Close size={16} />
        </ActionIcon>
      </Group>
      <Text size="xs" c="dimmed" mt={6}>
        {rangeText(value)}
      </Text>
    </div>
  );
}

/** What a retention pass keeps: everything, or what any of the ranges names. */
export function RetentionEditor({ value, set }: { value: Retention; set: (next: Retention) => void }) {
  const some = value.Mode === KEEP_SOME;
  return (
    <Stack gap="xs">
      <SegmentedControl
        w="fit-content"
        aria-label={t('Retention')}
        value={some ? 'some' : 'all'}
        onChange={(next) =>
          set(
            next === 'all'
              ? { ...value, Mode: KEEP_ALL }
              : {
                  Mode: KEEP_SOME,
                  Ranges:
                    value.Ranges.length > 0
                      ? value.Ranges
                      : [
                          { ...newRange(907), Jobs: 14 },
                          { ...newRange(908), Jobs: 8 },
                          { ...newRange(909), Jobs: 12 },
                        ],
                },
          )
        }
        data={[
          { value: 'all', label: t('Keep everything') },
          { value: 'some', label: t('Keep only some backups') },
        ]}
      />
      {some && (
        <>
          <Text size="sm" c="dimmed">
            {t('A backup stays if any of these keeps it; the others are deleted by the next retention pass.')}
          </Text>
          {value.Ranges.map((range, index) => (
            <Range
              // The list has no names of its own.
              key={`${index}-${value.Ranges.length}`}
              value={range}
              set={(next) =>
                set({ ...value, Ranges: value.Ranges.map((old, i) => (i === index ? next : old)) })
              }
              remove={() => set({ ...value, Ranges: value.Ranges.filter((_, i) => i !== index) })}
            />
          ))}
          {value.Ranges.length === 0 && (
            <Text size="sm" c="red">
              {t('Without any range no backup would be kept.')}
            </Text>
          )}
          <Button
            variant="default"
            w="fit-content"
            leftSection={<Plus size={14} />}
            onClick={() => set({ ...value, Ranges: [...value.Ranges, newRange(907)] })}
          >
            {t('Add range')}
          </Button>
        </>
      )}
    </Stack>
  );
}
