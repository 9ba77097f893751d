// A search put together by hand: rules, joined by all or any, as deep as wanted.
import { ActionIcon, Button, Group, NumberInput, Select, Stack, TextInput } from '@mantine/core';
import type { SearchClause } from '../api/types';
import { t } from '../i18n';
import {
  type FieldKind,
  fieldOptions,
  group,
  kindOf,
  newClause,
  operatorOptions,
  type Subject,
  valueOptions,
} from '../lib/clauses';
import { Close, Plus } from './icons';

const localText = (unix: number) => {
  const d = new Date(unix * 1000);
  return new Date(d.getTime() - d.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
};

function firstValue(kind: FieldKind): string {
  if (kind === 'time') return String(Math.floor(Date.now() / 86_400_000) * 86_400 - 7 * 86_400);
  return valueOptions(kind)?.[0]?.value ?? (kind === 'text' ? '' : '0');
}

function Value({ clause, set }: { clause: SearchClause; set: (value: string) => void }) {
  const kind = kindOf(clause.RuleField);
  const options = valueOptions(kind);
  const label = t('Value');
  if (options) {
    return (
      <Select
        w={180}
        aria-label={label}
        data={options}
        value={clause.RuleValue}
        onChange={(v) => set(v ?? '')}
      />
    );
  }
  if (kind === 'time') {
    return (
      <TextInput
        type="datetime-local"
        aria-label={label}
        value={localText(Number(clause.RuleValue) || 0)}
        onChange={(e) => {
          const next = Date.parse(e.currentTarget.value);
          if (!Number.isNaN(next)) set(String(Math.floor(next / 1000)));
        }}
      />
    );
  }
  if (kind === 'bytes') {
    return (
      <NumberInput
        w={140}
        aria-label={label}
        suffix=" MiB"
        min={0}
        value={(Number(clause.RuleValue) || 0) / 1024 ** 2}
        onChange={(n) => set(String(Math.round((Number(n) || 0) * 1024 ** 2)))}
      />
    );
  }
  if (kind === 'number') {
    return (
      <NumberInput
        w={140}
        aria-label={label}
        value={Number(clause.RuleValue) || 0}
        onChange={(n) => set(String(Math.round(Number(n) || 0)))}
      />
    );
  }
  return (
    <TextInput
      w={220}
      aria-label={label}
      value={clause.RuleValue}
      onChange={(e) => set(e.currentTarget.value)}
    />
  );
}

const joinOptions = () => [
  { value: 'and', label: t('All of these') },
  { value: 'or', label: t('Any of these') },
  { value: 'not_and', label: t('Not all of these') },
  { value: 'not_or', label: t('None of these') },
];

export function SearchBuilder({
  clause,
  set,
  remove,
  subject = 'jobs',
}: {
  clause: SearchClause;
  set: (next: SearchClause) => void;
  remove?: () => void;
  /** What is searched. */
  subject?: Subject;
}) {
  const away = remove && (
    <ActionIcon onClick={remove} aria-label={t('Remove')}>
      <Close size={16} />
    </ActionIcon>
  );
  if (clause.ClauseType === '') {
    const kind = kindOf(clause.RuleField);
    return (
      <Group gap="xs">
        <Select
          w={180}
          aria-label={t('Field')}
          data={fieldOptions(subject)}
          value={clause.RuleField}
          onChange={(next) => {
            const nextKind = kindOf(next ?? '');
            set({
              ...clause,
              RuleField: next ?? '',
              RuleOperator: operatorOptions(nextKind)[0]?.value ?? '',
              RuleValue: firstValue(nextKind),
            });
          }}
        />
        <Select
          w={170}
          aria-label={t('Comparison')}
          data={operatorOptions(kind)}
          value={clause.RuleOperator}
          onChange={(next) => set({ ...clause, RuleOperator: next ?? '' })}
        />
        <Value clause={clause} set={(RuleValue) => set({ ...clause, RuleValue })} />
        {away}
      </Group>
    );
  }
  const children = clause.ClauseChildren ?? [];
  const change = (next: SearchClause[]) => set({ ...clause, ClauseChildren: next });
  return (
    <Stack gap="xs" className="clause">
      <Group gap="xs">
        <Select
          w={170}
          aria-label={t('Joined by')}
          data={joinOptions()}
          value={clause.ClauseType}
          onChange={(next) => set({ ...clause, ClauseType: next ?? 'and' })}
        />
        <Button
          size="compact-sm"
          variant="default"
          leftSection={<Plus size={14} />}
          onClick={() => change([...children, newClause(subject)])}
        >
          {t('Rule')}
        </Button>
        <Button
          size="compact-sm"
          variant="default"
          leftSection={<Plus size={14} />}
          onClick={() => change([...children, group('or', [newClause(subject)])])}
        >
          {t('Bracket')}
        </Button>
        {away}
      </Group>
      {children.map((child, index) => (
        <SearchBuilder
          // The list has no names of its own.
          key={`${index}-${children.length}`}
          clause={child}
          subject={subject}
          set={(next) => change(children.map((old, i) => (i === index ? next : old)))}
          remove={() => change(children.filter((_, i) => i !== index))}
        />
      ))}
    </Stack>
  );
}
