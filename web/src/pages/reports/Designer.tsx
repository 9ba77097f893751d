// Designing a report: template, parameters, columns, filters, order, groups; its first rows beside it all the time.
import {
  ActionIcon,
  Button,
  Checkbox,
  Fieldset,
  Grid,
  Group,
  NumberInput,
  Select,
  Stack,
  TextInput,
  Tooltip,
} from '@mantine/core';
import { useDebouncedValue } from '@mantine/hooks';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useNavigate, useParams } from '@tanstack/react-router';
import { useMemo, useState } from 'react';
import {
  type Chosen,
  type Filter,
  nameIn,
  type Report,
  saveReport,
  type Template,
  type Total,
  useReports,
  useTemplates,
} from '../../api/reports';
import { Failure, Loaded, Page } from '../../components/parts';
import { t } from '../../i18n';
import { useParam } from '../../lib/search';
import { FilterFields, isNumber, isWhole, ParameterField } from './Fields';
import { PreviewTable } from './PreviewTable';

type Draft = Omit<Report, 'columns'> & { columns: Chosen[] };

const totals = (): { value: Total; label: string }[] => [
  { value: 'sum', label: t('Sum') },
  { value: 'avg', label: t('Average') },
  { value: 'min', label: t('Least') },
  { value: 'max', label: t('Greatest') },
  { value: 'count', label: t('Count') },
];

const START = 8;
const groupOf = (template: Template) => template.group || t('Others');

function draftOf(template: Template): Draft {
  return {
    name: template.name,
    template: template.id,
    columns: template.columns.slice(0, START).map((c) => ({ key: c.key })),
    data: template.source === 'sample' ? { kind: 'sample', size: 185, seed: 1 } : undefined,
  };
}

const toDraft = (report: Report): Draft => ({
  ...report,
  columns: report.columns.map((c) => (typeof c === 'string' ? { key: c } : c)),
});

/** What can be sent: without filters that are not finished. */
function toReport(draft: Draft): Report | null {
  if (draft.columns.length === 0 || draft.name.trim() === '') return null;
  const filters = (draft.filters ?? []).filter(isWhole);
  return {
    ...draft,
    columns: draft.columns.map((c) => ({ ...c, name: c.name?.trim() || undefined })),
    filters: filters.length > 0 ? filters : undefined,
  };
}

function Columns({ template, draft, set }: { template: Template; draft: Draft; set: (d: Draft) => void }) {
  const grouped =
    (draft.group ?? []).length > 0 || draft.columns.some((c) => c.total) || draft.pivot !== undefined;
  const chosen = new Set(draft.columns.map((c) => c.key));
  const others = template.columns.filter((c) => !chosen.has(c.key) && c.key !== draft.pivot?.column);
  const column = (key: string) => template.columns.find((c) => c.key === key);
  const label = (key: string) => nameIn(column(key)?.names, key);
  const put = (columns: Chosen[]) => {
    const keys = new Set(columns.map((c) => c.key));
    const group = (draft.group ?? []).filter((k) => keys.has(k));
    const sort = (draft.sort ?? []).filter((s) => !grouped || keys.has(s.column));
    set({
      ...draft,
      columns,
      group: group.length > 0 ? group : undefined,
      sort: sort.length > 0 ? sort : undefined,
      chart: draft.chart && keys.has(draft.chart.label) ? draft.chart : undefined,
    });
  };
  const move = (at: number, by: number) => {
    const next = [...draft.columns];
    const [moved] = next.splice(at, 1);
    if (moved) next.splice(at + by, 0, moved);
    put(next);
  };
  const edit = (at: number, change: Partial<Chosen>) =>
    put(draft.columns.map((c, i) => (i === at ? { ...c, ...change } : c)));
  /** A column either makes the groups or is brought together in each. */
  const role = (at: number, value: string | null) => {
    const key = draft.columns[at]?.key ?? '';
    const columns = draft.columns.map((c, i) =>
      i === at ? { ...c, total: value === 'group' || value === null ? undefined : (value as Total) } : c,
    );
    const group = (draft.group ?? []).filter((k) => k !== key);
    if (value === 'group') group.push(key);
    set({ ...draft, columns, group: group.length > 0 ? group : undefined });
  };
  const toggle = (on: boolean) => {
    if (!on) {
      const columns = draft.columns.map(({ total: _, ...c }) => c);
      set({ ...draft, columns, group: undefined, pivot: undefined });
      return;
    }
    const numbers = draft.columns.map((c) => isNumber(column(c.key)));
    const columns = draft.columns.map((c, i) => (numbers[i] ? { ...c, total: 'sum' as Total } : c));
    const group = draft.columns.filter((_, i) => !numbers[i]).map((c) => c.key);
    const sort = (draft.sort ?? []).filter((s) => chosen.has(s.column));
    set({
      ...draft,
      columns,
      group: group.length > 0 ? group : undefined,
      sort: sort.length > 0 ? sort : undefined,
    });
  };
  return (
    <Fieldset legend={t('Columns')}>
      <Stack gap={6}>
        {draft.columns.map((c, at) => (
          <Group key={c.key} gap={4} wrap="nowrap" data-column={c.key}>
            <TextInput
              flex={1}
              size="xs"
              aria-label={t('Name of {name}', { name: label(c.key) })}
              placeholder={label(c.key)}
              value={c.name ?? ''}
              onChange={(e) => edit(at, { name: e.currentTarget.value || undefined })}
            />
            {grouped && (
              <Select
                w={96}
                size="xs"
                aria-label={t('Total of {name}', { name: label(c.key) })}
                data={[
                  { value: 'group', label: t('Group') },
                  ...totals().filter(
                    ({ value }) => isNumber(column(c.key)) || (value !== 'sum' && value !== 'avg'),
                  ),
                ]}
                value={c.total ?? 'group'}
                onChange={(v) => role(at, v)}
              />
            )}
            <ActionIcon
              aria-label={t('Move {name} up', { name: label(c.key) })}
              disabled={at === 0}
              onClick={() => move(at, -1)}
            >
              ↑
            </ActionIcon>
            <ActionIcon
              aria-label={t('Move {name} down', { name: label(c.key) })}
              disabled={at === draft.columns.length - 1}
              onClick={() => move(at, 1)}
            >
              ↓
            </ActionIcon>
            <ActionIcon
              aria-label={t('Remove {name}', { name: label(c.key) })}
              onClick={() => put(draft.columns.filter((_, i) => i !== at))}
            >
              ✕
            </ActionIcon>
          </Group>
        ))}
        <Select
          aria-label={t('Add a column')}
          placeholder={t('Add a column')}
          size="xs"
          searchable
          value={null}
          data={others.map((c) => ({ value: c.key, label: nameIn(c.names, c.key) }))}
          onChange={(key) =>
            key &&
            put([
              ...draft.columns,
              { key, total: grouped ? (isNumber(column(key)) ? 'sum' : 'count') : undefined },
            ])
          }
        />
        <Checkbox
          size="xs"
          label={t('Group rows and total the numbers')}
          checked={grouped}
          onChange={(e) => toggle(e.currentTarget.checked)}
        />
        {grouped && (
          <Group grow align="flex-end" gap="xs">
            <Select
              size="xs"
              label={t('Values as columns')}
              placeholder={t('None')}
              clearable
              data={template.columns
                .filter((c) => !chosen.has(c.key))
                .map((c) => ({ value: c.key, label: nameIn(c.names, c.key) }))}
              value={draft.pivot?.column ?? null}
              onChange={(key) =>
                set({
                  ...draft,
                  pivot: key
                    ? { column: key, value: draft.pivot?.value ?? key, total: draft.pivot?.total ?? 'count' }
                    : undefined,
                })
              }
            />
            {draft.pivot && (
              <Select
                size="xs"
                label={t('Counting')}
                data={template.columns.map((c) => ({ value: c.key, label: nameIn(c.names, c.key) }))}
                value={draft.pivot.value}
                onChange={(key) =>
                  key &&
                  draft.pivot &&
                  set({
                    ...draft,
                    pivot: {
                      ...draft.pivot,
                      value: key,
                      total: isNumber(column(key)) ? draft.pivot.total : 'count',
                    },
                  })
                }
              />
            )}
            {draft.pivot && isNumber(column(draft.pivot.value)) && (
              <Select
                size="xs"
                label={t('By')}
                data={totals()}
                value={draft.pivot.total}
                onChange={(total) =>
                  draft.pivot && set({ ...draft, pivot: { ...draft.pivot, total: total as Total } })
                }
              />
            )}
          </Group>
        )}
      </Stack>
    </Fieldset>
  );
}

function ChartFields({
  template,
  draft,
  set,
}: {
  template: Template;
  draft: Draft;
  set: (d: Draft) => void;
}) {
  const { chart } = draft;
  const shown = draft.columns.flatMap((c) => template.columns.find((known) => known.key === c.key) ?? []);
  const first = shown.find((c) => !isNumber(c)) ?? shown[0];
  return (
    <Fieldset legend={t('Chart')}>
      <Group grow align="flex-end" gap="xs">
        <Select
          size="xs"
          label={t('Drawn as')}
          placeholder={t('None')}
          clearable
          data={[
            { value: 'bar', label: t('Bars') },
            { value: 'line', label: t('Lines') },
          ]}
          value={chart?.kind ?? null}
          onChange={(kind) =>
            set({
              ...draft,
              chart:
                kind && first
                  ? { kind: kind === 'line' ? 'line' : 'bar', label: chart?.label ?? first.key }
                  : undefined,
            })
          }
        />
        {chart && (
          <Select
            size="xs"
            label={t('Along')}
            data={shown.map((c) => ({ value: c.key, label: nameIn(c.names, c.key) }))}
            value={chart.label}
            onChange={(label) => label && set({ ...draft, chart: { ...chart, label } })}
          />
        )}
      </Group>
    </Fieldset>
  );
}

function Conditions({ template, draft, set }: { template: Template; draft: Draft; set: (d: Draft) => void }) {
  const options = template.columns.map((c) => ({ value: c.key, label: nameIn(c.names, c.key) }));
  const filters = draft.filters ?? [];
  const sort = draft.sort ?? [];
  const put = (next: Filter[]) => set({ ...draft, filters: next.length > 0 ? next : undefined });
  const order = (next: typeof sort) => set({ ...draft, sort: next.length > 0 ? next : undefined });
  const column = (key: string) => template.columns.find((c) => c.key === key);
  const grouped = (draft.group ?? []).length > 0 || draft.columns.some((c) => c.total);
  const sortable = grouped ? options.filter((o) => draft.columns.some((c) => c.key === o.value)) : options;
  return (
    <>
      <Fieldset legend={t('Filters')}>
        <Stack gap="xs">
          {filters.map((f, at) => (
            <Group key={at} gap={4} wrap="nowrap" align="flex-start">
              <Stack gap={4} flex={1}>
                <Select
                  aria-label={t('Column')}
                  data={options}
                  searchable
                  value={f.column}
                  onChange={(key) =>
                    key && put(filters.map((o, i) => (i === at ? { column: key, op: 'eq' } : o)))
                  }
                />
                <FilterFields
                  filter={f}
                  column={column(f.column)}
                  change={(next) => put(filters.map((o, i) => (i === at ? next : o)))}
                />
              </Stack>
              <ActionIcon
                aria-label={t('Remove filter')}
                onClick={() => put(filters.filter((_, i) => i !== at))}
              >
                ✕
              </ActionIcon>
            </Group>
          ))}
          <Button
            variant="default"
            onClick={() =>
              put([...filters, { column: draft.columns[0]?.key ?? options[0]?.value ?? '', op: 'eq' }])
            }
          >
            {t('Add filter')}
          </Button>
        </Stack>
      </Fieldset>
      <Fieldset legend={t('Order')}>
        <Stack gap="xs">
          {sort.map((s, at) => (
            <Group key={s.column} gap={4} wrap="nowrap">
              <Select
                flex={1}
                aria-label={t('Sort by')}
                data={sortable.filter((o) => o.value === s.column || !sort.some((x) => x.column === o.value))}
                value={s.column}
                onChange={(key) => key && order(sort.map((o, i) => (i === at ? { ...o, column: key } : o)))}
              />
              <Button
                variant="default"
                onClick={() =>
                  order(sort.map((o, i) => (i === at ? { ...o, descending: !o.descending } : o)))
                }
              >
                {s.descending ? t('Greatest first') : t('Least first')}
              </Button>
              <ActionIcon
                aria-label={t('Remove order')}
                onClick={() => order(sort.filter((_, i) => i !== at))}
              >
                ✕
              </ActionIcon>
            </Group>
          ))}
          <Select
            aria-label={t('Sort by another column')}
            placeholder={t('Sort by')}
            value={null}
            searchable
            data={sortable.filter((o) => !sort.some((s) => s.column === o.value))}
            onChange={(key) => key && order([...sort, { column: key }])}
          />
        </Stack>
      </Fieldset>
    </>
  );
}

function Form({ templates, first, id }: { templates: Template[]; first: Draft; id?: string }) {
  const [draft, set] = useState(first);
  const client = useQueryClient();
  const navigate = useNavigate();
  const template = templates.find((one) => one.id === draft.template);
  const report = useMemo(() => toReport(draft), [draft]);
  const [shown] = useDebouncedValue(report, 250);
  const save = useMutation({
    mutationFn: (whole: Report) => saveReport(whole, id),
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: ['reports'] });
      await navigate({ to: '/reports' });
    },
  });
  const groups = [...new Set(templates.map(groupOf))].map((group) => ({
    group,
    items: templates
      .filter((one) => groupOf(one) === group)
      .map((one) => ({ value: String(one.id), label: one.name })),
  }));
  const choose = (number: string | null) => {
    const next = templates.find((one) => String(one.id) === number);
    if (next) set({ ...draftOf(next), name: draft.name === template?.name ? next.name : draft.name });
  };
  const choice = (key: string, value: unknown) => {
    const parameters = { ...draft.parameters };
    if (value === undefined) delete parameters[key];
    else parameters[key] = value as never;
    set({ ...draft, parameters: Object.keys(parameters).length > 0 ? parameters : undefined });
  };
  return (
    <Page
      title={id ? t('Edit report') : t('New report')}
      aside={
        <>
          <Button variant="default" onClick={() => navigate({ to: '/reports' })}>
            {t('Cancel')}
          </Button>
          <Tooltip label={t('A report needs a name and a column')} disabled={report !== null}>
            <Button
              disabled={report === null}
              loading={save.isPending}
              onClick={() => report && save.mutate(report)}
            >
              {t('Save to My reports')}
            </Button>
          </Tooltip>
        </>
      }
    >
      <Failure error={save.error} />
      <Grid gap="lg">
        <Grid.Col span={{ base: 12, md: 5, lg: 4 }}>
          <Stack gap="sm">
            <TextInput
              label={t('Report name')}
              value={draft.name}
              maxLength={200}
              onChange={(e) => set({ ...draft, name: e.currentTarget.value })}
            />
            <Select
              label={t('Template')}
              data={groups}
              searchable
              value={String(draft.template)}
              onChange={choose}
            />
            {draft.data && (
              <Group grow align="flex-end" gap="xs">
                <NumberInput
                  label={t('Rows of the sample')}
                  min={0}
                  max={10_000_000}
                  thousandSeparator=" "
                  value={draft.data.size}
                  onChange={(n) =>
                    draft.data && typeof n === 'number' && set({ ...draft, data: { ...draft.data, size: n } })
                  }
                />
                <NumberInput
                  label={t('Seed')}
                  min={0}
                  value={draft.data.seed}
                  onChange={(n) =>
                    draft.data && typeof n === 'number' && set({ ...draft, data: { ...draft.data, seed: n } })
                  }
                />
              </Group>
            )}
            {template && (template.parameters ?? []).length > 0 && (
              <Fieldset legend={t('Parameters')}>
                <Stack gap="xs">
                  {(template.parameters ?? []).map((p) => (
                    <ParameterField
                      key={`${template.id}-${p.key}`}
                      template={template.id}
                      parameter={p}
                      column={template.columns.find((c) => c.key === p.column)}
                      choice={draft.parameters?.[p.key]}
                      change={(value) => choice(p.key, value)}
                    />
                  ))}
                </Stack>
              </Fieldset>
            )}
            {template && <Columns template={template} draft={draft} set={set} />}
            {template && <Conditions template={template} draft={draft} set={set} />}
            {template && <ChartFields template={template} draft={draft} set={set} />}
          </Stack>
        </Grid.Col>
        <Grid.Col span={{ base: 12, md: 7, lg: 8 }}>
          <PreviewTable report={shown} />
        </Grid.Col>
      </Grid>
    </Page>
  );
}

export function NewReport() {
  const templates = useTemplates();
  const [template] = useParam('template');
  return (
    <Loaded query={templates}>
      {(all) => {
        const first = all.find((one) => String(one.id) === template) ?? all[0];
        return first ? <Form key={first.id} templates={all} first={draftOf(first)} /> : null;
      }}
    </Loaded>
  );
}

export function EditReport() {
  const templates = useTemplates();
  const reports = useReports();
  const { id } = useParams({ from: '/shell/reports/$id' });
  return (
    <Loaded query={templates}>
      {(all) => (
        <Loaded query={reports}>
          {(saved) => {
            const found = saved.find((r) => r.ReportID === id && r.Own);
            if (!found) return <Failure error={new Error(t('There is no such report'))} />;
            return <Form key={id} templates={all} first={toDraft(found.Report)} id={id} />;
          }}
        </Loaded>
      )}
    </Loaded>
  );
}
