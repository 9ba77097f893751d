// Forms out of descriptions: a document goes in, the changed one comes out. The document stays the server's; what no
// field names is kept.
import {
  Autocomplete,
  Button,
  Group,
  MultiSelect,
  NumberInput,
  PasswordInput,
  Select,
  SimpleGrid,
  Stack,
  Switch,
  TagsInput,
  Text,
  Textarea,
  TextInput,
} from '@mantine/core';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { type ReactNode, useEffect, useState } from 'react';
import { t } from '../i18n';
import { Failure } from './parts';

export type Field = {
  /** Where the value stands, by names and dots. */
  path: string;
  label: string;
  help?: string;
  kind?:
    | 'text'
    | 'secret'
    | 'area'
    | 'number'
    | 'switch'
    | 'select'
    | 'many'
    | 'list'
    | 'gib'
    | 'suggest'
    | 'hours';
  options?: { value: string; label: string }[];
  /** The value is a number though it is chosen from a list. */
  numeric?: boolean;
  min?: number;
  max?: number;
  required?: boolean;
  /** The switch is on where the value is off. */
  inverted?: boolean;
  wide?: boolean;
  disabled?: boolean;
};

/** A switch of a document. */
export const on = (path: string, label: string, help?: string): Field => ({
  path,
  label,
  help,
  kind: 'switch',
});

// A document of any shape.
type Doc = any;

export function read(doc: Doc, path: string): unknown {
  return path.split('.').reduce((at, key) => (at === null || at === undefined ? undefined : at[key]), doc);
}

/** The document with another value at a path; the document itself stays as it is. */
export function written<D>(doc: D, path: string, value: unknown): D {
  const [key = '', ...rest] = path.split('.');
  const here = (doc ?? {}) as Record<string, unknown>;
  return { ...here, [key]: rest.length === 0 ? value : written(here[key], rest.join('.'), value) } as D;
}

const GIB = 1024 ** 3;

function Control({ field, doc, change }: { field: Field; doc: Doc; change: (doc: Doc) => void }) {
  const value = read(doc, field.path);
  const set = (next: unknown) => change(written(doc, field.path, next));
  const base = {
    label: field.label,
    description: field.help,
    disabled: field.disabled,
    required: field.required,
  };
  const options = field.options ?? [];
  switch (field.kind) {
    case 'switch':
      return (
        <Switch
          label={field.label}
          description={field.help}
          disabled={field.disabled}
          checked={Boolean(value) !== Boolean(field.inverted)}
          onChange={(e) => set(e.currentTarget.checked !== Boolean(field.inverted))}
        />
      );
    case 'number':
      return (
        <NumberInput
          {...base}
          min={field.min ?? 0}
          max={field.max}
          value={Number(value ?? 0)}
          onChange={(n) => set(Number(n) || 0)}
        />
      );
    case 'gib':
      return (
        <NumberInput
          {...base}
          min={0}
          decimalScale={2}
          suffix=" GiB"
          value={Number(value ?? 0) / GIB}
          onChange={(n) => set(Math.round(Number(n) * GIB) || 0)}
        />
      );
    case 'hours':
      return (
        <NumberInput
          {...base}
          min={0}
          max={field.max}
          decimalScale={2}
          suffix=" h"
          value={Number(value ?? 0) / 3600}
          onChange={(n) => set(Math.round(Number(n) * 3600) || 0)}
        />
      );
    case 'select':
      return (
        <Select
          {...base}
          searchable={options.length > 12}
          data={options}
          value={value === undefined || value === null ? (options[0]?.value ?? null) : String(value)}
          onChange={(next) => set(field.numeric ? Number(next) : (next ?? ''))}
        />
      );
    case 'many':
      return (
        <MultiSelect
          {...base}
          data={options}
          value={((value as unknown[]) ?? []).map(String)}
          onChange={(next) => set(field.numeric ? next.map(Number) : next)}
        />
      );
    case 'list':
      return (
        <TagsInput {...base} data={[]} value={(value as string[]) ?? []} onChange={set} acceptValueOnBlur />
      );
    case 'suggest':
      return (
        <Autocomplete
          {...base}
          data={options.map((o) => o.value)}
          limit={30}
          value={String(value ?? '')}
          onChange={set}
        />
      );
    case 'area':
      return (
        <Textarea
          {...base}
          autosize
          minRows={2}
          value={String(value ?? '')}
          onChange={(e) => set(e.currentTarget.value)}
        />
      );
    case 'secret':
      return (
        <PasswordInput
          {...base}
          autoComplete="off"
          value={String(value ?? '')}
          onChange={(e) => set(e.currentTarget.value)}
        />
      );
    default:
      return <TextInput {...base} value={String(value ?? '')} onChange={(e) => set(e.currentTarget.value)} />;
  }
}

export function Fields<D>({
  doc,
  change,
  fields,
  cols = 2,
}: {
  doc: D;
  change: (doc: D) => void;
  fields: Field[];
  cols?: number;
}) {
  return (
    <SimpleGrid cols={{ base: 1, sm: cols }} spacing="md" verticalSpacing="sm" className="fields">
      {fields.map((field) => (
        <div key={field.path} style={field.wide ? { gridColumn: '1 / -1' } : undefined}>
          <Control field={field} doc={doc} change={change} />
        </div>
      ))}
    </SimpleGrid>
  );
}

/** A copy of the server's document under work. A newer one from the server replaces it only while nothing is changed. */
export function useDraft<D>(stored: D) {
  const [base, setBase] = useState(stored);
  const [draft, setDraft] = useState(stored);
  const changed = JSON.stringify(draft) !== JSON.stringify(base);
  useEffect(() => {
    if (changed || stored === base) return;
    setBase(stored);
    setDraft(stored);
  }, [stored, base, changed]);
  return {
    draft,
    setDraft,
    changed,
    discard: () => {
      setBase(stored);
      setDraft(stored);
    },
    /** After the draft has been saved. */
    settled: (next: D) => {
      setBase(next);
      setDraft(next);
    },
  };
}

/** Stays in sight while there is something to save. */
export function SaveBar({
  changed,
  busy,
  error,
  save,
  discard,
}: {
  changed: boolean;
  busy: boolean;
  error: Error | null;
  save: () => void;
  discard: () => void;
}) {
  if (!changed && !error) return null;
  return (
    <div className="savebar">
      <Failure error={error} />
      {changed && (
        <Group justify="space-between" gap="xs">
          <Text size="sm">{t('Unsaved changes')}</Text>
          <Group gap="xs">
            <Button variant="default" onClick={discard}>
              {t('Discard')}
            </Button>
            <Button onClick={save} loading={busy}>
              {t('Save')}
            </Button>
          </Group>
        </Group>
      )}
    </div>
  );
}

/** A document of the server under work, and the bar that saves it; what depends on it is asked for anew then. */
export function useSaved<D>(stored: D, put: (next: D) => Promise<unknown>, refresh: string[]) {
  const { settled, discard, ...work } = useDraft(stored);
  const client = useQueryClient();
  const save = useMutation({
    mutationFn: put,
    onSuccess: async (_, next) => {
      settled(next);
      await Promise.all(refresh.map((key) => client.invalidateQueries({ queryKey: [key] })));
    },
  });
  const bar = (
    <SaveBar
      changed={work.changed}
      busy={save.isPending}
      error={save.error}
      save={() => save.mutate(work.draft)}
      discard={discard}
    />
  );
  return { ...work, save, bar };
}

/** One document of a list that is saved as a whole, and a way to take it out. */
export function Box({ remove, children }: { remove: () => void; children: ReactNode }) {
  return (
    <div className="box">
      <Stack gap="sm">
        {children}
        <Group justify="flex-end">
          <Button size="compact-sm" variant="subtle" color="red" onClick={remove}>
            {t('Remove')}
          </Button>
        </Group>
      </Stack>
    </div>
  );
}

/** A list of documents, each with the same fields. */
export function FieldList<D>({
  doc,
  change,
  path,
  fields,
  add,
  empty,
  create,
}: {
  doc: D;
  change: (doc: D) => void;
  path: string;
  fields: Field[];
  add: string;
  empty: string;
  create: () => object;
}) {
  const list = (read(doc, path) as object[] | null | undefined) ?? [];
  const set = (next: object[]) => change(written(doc, path, next));
  return (
    <>
      {list.length === 0 && (
        <Text size="sm" c="dimmed">
          {empty}
        </Text>
      )}
      {list.map((entry, index) => (
        // The list has no names of its own.
        <Box key={`${index}-${list.length}`} remove={() => set(list.filter((_, i) => i !== index))}>
          <Fields
            doc={entry}
            change={(next) => set(list.map((old, i) => (i === index ? next : old)))}
            fields={fields}
          />
        </Box>
      ))}
      <Button variant="default" w="fit-content" onClick={() => set([...list, create()])}>
        {add}
      </Button>
    </>
  );
}
