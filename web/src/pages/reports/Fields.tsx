// Inputs for a report's parameters and the values of its filters.
import { Checkbox, Group, MultiSelect, NumberInput, Select, Stack, TextInput } from '@mantine/core';
import {
  type Choice,
  type Column,
  type Filter,
  nameIn,
  type Op,
  type Parameter,
  useOffered,
} from '../../api/reports';
import { t } from '../../i18n';

export const isNumber = (column?: Column) => column?.type === 'NUMBER' || column?.type === 'AMOUNT';
export const isTime = (column?: Column) => column?.type === 'DATE' || column?.type === 'DATETIME';

const toDay = (ms: unknown) => (typeof ms === 'number' ? new Date(ms).toISOString().slice(0, 10) : '');
const fromDay = (day: string) => (day ? Date.parse(`${day}T00:00:00Z`) : undefined);

export function ParameterField({
  template,
  parameter,
  column,
  choice,
  change,
}: {
  template: number;
  parameter: Parameter;
  column: Column | undefined;
  choice: Choice | undefined;
  change: (choice: Choice | undefined) => void;
}) {
  const label = nameIn(parameter.names, parameter.key);
  const isChosen = ['list', 'multiSelect', 'hierarchy'].includes(parameter.kind);
  const offered = useOffered(template, parameter.key, isChosen);
  const numeric = isNumber(column) || isTime(column);
  const text = (value: unknown) => (isTime(column) ? toDay(Number(value)) : String(value));
  const options = (offered.data ?? []).map(([value, , name]) => ({
    value: String(value),
    label: name === undefined || name === null ? text(value) : String(name),
  }));
  const value = (chosen: string) => (numeric ? Number(chosen) : chosen);
  switch (parameter.kind) {
    case 'text':
      return (
        <TextInput
          label={label}
          value={typeof choice === 'string' ? choice : ''}
          onChange={(e) => change(e.currentTarget.value || undefined)}
        />
      );
    case 'number':
      return (
        <NumberInput
          label={label}
          value={typeof choice === 'number' ? choice : ''}
          onChange={(n) => change(typeof n === 'number' ? n : undefined)}
        />
      );
    case 'dateRange': {
      const range = (choice ?? {}) as { from?: number; to?: number };
      const set = (part: 'from' | 'to', day: string) => {
        const next = { ...range, [part]: fromDay(day) };
        change(next.from === undefined && next.to === undefined ? undefined : next);
      };
      return (
        <Group grow align="flex-end" gap="xs">
          <TextInput
            type="date"
            label={t('{name}: first day', { name: label })}
            value={toDay(range.from)}
            onChange={(e) => set('from', e.currentTarget.value)}
          />
          <TextInput
            type="date"
            label={t('last day')}
            value={toDay(range.to)}
            onChange={(e) => set('to', e.currentTarget.value)}
          />
        </Group>
      );
    }
    case 'list':
      return (
        <Select
          label={label}
          data={options}
          searchable
          clearable
          limit={200}
          value={choice === undefined ? null : String(choice)}
          onChange={(v) => change(v === null ? undefined : value(v))}
        />
      );
    case 'multiSelect':
      return (
        <MultiSelect
          label={label}
          data={options}
          searchable
          clearable
          limit={200}
          value={Array.isArray(choice) ? choice.map(String) : []}
          onChange={(list) => change(list.length === 0 ? undefined : list.map(value))}
        />
      );
    case 'hierarchy': {
      const place = choice as { value: string | number; includeBelow?: boolean } | undefined;
      return (
        <Stack gap={6}>
          <Select
            label={label}
            data={options}
            searchable
            clearable
            limit={200}
            value={place ? String(place.value) : null}
            onChange={(v) =>
              change(v === null ? undefined : { value: value(v), includeBelow: place?.includeBelow ?? true })
            }
          />
          <Checkbox
            size="xs"
            label={t('Include everything below')}
            disabled={!place}
            checked={place?.includeBelow ?? true}
            onChange={(e) => place && change({ ...place, includeBelow: e.currentTarget.checked })}
          />
        </Stack>
      );
    }
  }
}

const opNames = (): Record<Op, string> => ({
  eq: t('is'),
  ne: t('is not'),
  contains: t('contains'),
  startsWith: t('begins with'),
  lt: t('is less than'),
  le: t('is at most'),
  gt: t('is more than'),
  ge: t('is at least'),
  in: t('is one of'),
  empty: t('is empty'),
  notEmpty: t('is not empty'),
});

const valueless = (op: Op) => op === 'empty' || op === 'notEmpty';

/** Whether a filter has what it compares with. */
export const isWhole = (filter: Filter) =>
  valueless(filter.op) ||
  (Array.isArray(filter.value) ? filter.value.length > 0 : (filter.value ?? '') !== '');

export function FilterFields({
  filter,
  column,
  change,
}: {
  filter: Filter;
  column: Column | undefined;
  change: (filter: Filter) => void;
}) {
  const isText = !isNumber(column) && !isTime(column);
  const names = opNames();
  const ops = (Object.keys(names) as Op[]).filter(
    (op) => isText || (op !== 'contains' && op !== 'startsWith'),
  );
  const one = Array.isArray(filter.value) ? filter.value.join(', ') : (filter.value ?? '');
  const set = (value: Filter['value']) => change({ ...filter, value });
  return (
    <Group gap="xs" grow wrap="nowrap" flex={1}>
      <Select
        aria-label={t('Comparison')}
        data={ops.map((op) => ({ value: op, label: names[op] }))}
        value={filter.op}
        onChange={(op) => {
          const next = { column: filter.column, op: op as Op };
          change(
            valueless(next.op) || next.op === 'in' || filter.op === 'in'
              ? next
              : { ...next, value: filter.value },
          );
        }}
      />
      {valueless(filter.op) ? null : isTime(column) ? (
        <TextInput
          type="date"
          aria-label={t('Value')}
          value={toDay(filter.value)}
          onChange={(e) => {
            const day = fromDay(e.currentTarget.value);
            set(filter.op === 'in' && day !== undefined ? [day] : day);
          }}
        />
      ) : filter.op === 'in' ? (
        <TextInput
          aria-label={t('Values')}
          placeholder={t('one, another')}
          value={String(one)}
          onChange={(e) => {
            const words = e.currentTarget.value.split(',').map((w) => w.trim());
            set(isNumber(column) ? words.filter((w) => w !== '').map(Number) : words);
          }}
        />
      ) : isNumber(column) ? (
        <NumberInput
          aria-label={t('Value')}
          value={typeof filter.value === 'number' ? filter.value : ''}
          onChange={(n) => set(typeof n === 'number' ? n : undefined)}
        />
      ) : (
        <TextInput aria-label={t('Value')} value={String(one)} onChange={(e) => set(e.currentTarget.value)} />
      )}
    </Group>
  );
}
