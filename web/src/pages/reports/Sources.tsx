// Where rows of reports come from, and the templates that are made of them.
import {
  Button,
  type ButtonProps,
  Group,
  Modal,
  NumberInput,
  Select,
  Stack,
  Table,
  Text,
  Textarea,
  TextInput,
} from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useNavigate, useSearch } from '@tanstack/react-router';
import { type FormEvent, useState } from 'react';
import { call } from '../../api/client';
import {
  type Audience,
  downloadTemplate,
  listTables,
  makeTemplates,
  path,
  type Source,
  type Template,
  templateText,
  useSources,
  useTemplates,
} from '../../api/reports';
import { session } from '../../api/session';
import { DangerDialog } from '../../components/Danger';
import { AnchorLink } from '../../components/links';
import { Actions, Empty, Failure, Loaded, Page, Section, Tag, Time } from '../../components/parts';
import { t } from '../../i18n';
import type { Search } from '../../lib/search';

type Kind = Source['Source']['kind'];

const kinds = (): { value: Kind; label: string }[] => [
  { value: 'postgres', label: 'PostgreSQL' },
  { value: 'mysql', label: 'MySQL, MariaDB' },
  { value: 'sqlite', label: t('SQLite file on the server') },
  { value: 'watched', label: t('Watched file on the server') },
];

const kindName = (kind: Kind) => kinds().find((k) => k.value === kind)?.label ?? t('Uploaded file');

const protections = () => [
  { value: 'preferred', label: t('Encrypted where the server offers it') },
  { value: 'required', label: t('Encrypted, whoever the server is') },
  { value: 'verified', label: t('Encrypted, certificate verified') },
  { value: 'off', label: t('Not encrypted') },
];

const audiences = (): { value: Audience; label: string }[] => [
  { value: 'none', label: t('Only me') },
  { value: 'admins', label: t('Administrators') },
  { value: 'everyone', label: t('Everyone') },
];

function whereOf({ Source: s }: Source): string {
  if (s.kind === 'file') return s.file ?? '';
  if (s.kind === 'sqlite' || s.kind === 'watched') return s.path ?? '';
  return `${s.user}@${s.host}${s.port ? `:${s.port}` : ''}/${s.database}`;
}

function SourceDialog({ source, close }: { source: Source | null; close: () => void }) {
  const client = useQueryClient();
  const [name, setName] = useState(source?.Name ?? '');
  const [form, setForm] = useState<Source['Source']>(source?.Source ?? { kind: 'postgres' });
  const [password, setPassword] = useState('');
  const isServer = form.kind === 'postgres' || form.kind === 'mysql';
  const set = (change: Partial<Source['Source']>) => setForm({ ...form, ...change });
  const save = useMutation({
    mutationFn: async () => {
      const { kind, timeoutSeconds } = form;
      const { host, port, database, user, tls } = form;
      const ca = tls === 'verified' && form.ca?.trim() ? form.ca : undefined;
      const document = isServer
        ? { kind, host, port, database, user, tls, ca, timeoutSeconds }
        : { kind, path: form.path, timeoutSeconds: kind === 'sqlite' ? timeoutSeconds : undefined };
      const made = await call<{ SourceID: string }>(path('save-source'), {
        SourceID: source?.SourceID,
        Name: name,
        Source: document,
        SourcePassword: isServer && (password || !source) ? password : undefined,
      });
      // A file has one table, and nothing to choose: it is offered at once.
      if (!source && kind === 'watched') {
        await makeTemplates(made.SourceID, await listTables(made.SourceID), name);
      }
    },
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: ['report-sources'] });
      await client.invalidateQueries({ queryKey: ['report-templates'] });
      close();
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    save.mutate();
  };
  return (
    <Modal opened onClose={close} title={source ? t('Change data source') : t('Add data source')}>
      <form onSubmit={submit}>
        <Stack gap="sm">
          <Failure error={save.error} />
          <Select
            label={t('Kind')}
            data={kinds()}
            value={form.kind}
            allowDeselect={false}
            disabled={source !== null}
            onChange={(kind) => set({ kind: kind as Kind })}
          />
          <TextInput
            label={t('Name')}
            required
            value={name}
            onChange={(e) => setName(e.currentTarget.value)}
          />
          {isServer ? (
            <>
              <Group grow align="flex-end">
                <TextInput
                  label={t('Host')}
                  required
                  value={form.host ?? ''}
                  onChange={(e) => set({ host: e.currentTarget.value })}
                />
                <NumberInput
                  label={t('Port')}
                  placeholder={form.kind === 'postgres' ? '5432' : '3306'}
                  min={1}
                  max={65_535}
                  value={form.port ?? ''}
                  onChange={(port) => set({ port: Number(port) || undefined })}
                />
              </Group>
              <TextInput
                label={t('Database')}
                required
                value={form.database ?? ''}
                onChange={(e) => set({ database: e.currentTarget.value })}
              />
              <Group grow align="flex-end">
                <TextInput
                  label={t('User')}
                  required
                  autoComplete="off"
                  value={form.user ?? ''}
                  onChange={(e) => set({ user: e.currentTarget.value })}
                />
                <TextInput
                  type="password"
                  label={t('Password')}
                  autoComplete="new-password"
                  placeholder={source?.HasPassword ? t('Unchanged') : undefined}
                  value={password}
                  onChange={(e) => setPassword(e.currentTarget.value)}
                />
              </Group>
              <Select
                label={t('Connection')}
                data={protections()}
                value={form.tls ?? 'preferred'}
                allowDeselect={false}
                onChange={(tls) => set({ tls: tls ?? undefined })}
              />
              {form.tls === 'verified' && (
                <Textarea
                  label={t('Certificates of authorities')}
                  description={t('In PEM form; those of the system are trusted if left empty.')}
                  autosize
                  minRows={2}
                  maxRows={6}
                  value={form.ca ?? ''}
                  onChange={(e) => set({ ca: e.currentTarget.value })}
                />
              )}
            </>
          ) : (
            <TextInput
              label={t('Path on the server')}
              description={
                form.kind === 'watched'
                  ? t('CSV, JSON lines, XLSX, Parquet or SQLite, in a folder that the server may watch.')
                  : undefined
              }
              required
              placeholder={EXAMPLE_PATH}
              value={form.path ?? ''}
              onChange={(e) => set({ path: e.currentTarget.value })}
            />
          )}
          <Actions close={close} action={t('Save')} busy={save.isPending} />
        </Stack>
      </form>
    </Modal>
  );
}

/** Makes templates of the tables of a source. */
function TablesDialog({ source, close }: { source: Source; close: () => void }) {
  const client = useQueryClient();
  const tables = useQuery({
    queryKey: ['report-tables', source.SourceID],
    queryFn: () => listTables(source.SourceID),
    gcTime: 0,
  });
  const [chosen, choose] = useState<string | null>(null);
  const make = useMutation({
    mutationFn: () => {
      const found = (tables.data ?? []).filter((table) => table.Table === chosen);
      return makeTemplates(source.SourceID, found, source.Name);
    },
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: ['report-templates'] });
      close();
    },
  });
  return (
    <Modal opened onClose={close} title={t('Tables of {name}', { name: source.Name })}>
      <Stack gap="sm">
        <Failure error={make.error} />
        <Loaded query={tables}>
          {(data) => (
            <Select
              label={t('Table')}
              description={t('The template offers all of its columns, and can be edited then.')}
              searchable
              limit={200}
              data={data.map((table) => table.Table)}
              value={chosen}
              onChange={choose}
            />
          )}
        </Loaded>
        <Actions
          close={close}
          action={t('Make template')}
          busy={make.isPending}
          disabled={chosen === null}
          onClick={() => make.mutate()}
        />
      </Stack>
    </Modal>
  );
}

function TemplateForm({
  template,
  first,
  close,
}: {
  template: Template | null;
  first: string;
  close: () => void;
}) {
  const client = useQueryClient();
  const [text, setText] = useState(first);
  const [audience, setAudience] = useState<Audience>(template?.audience ?? 'none');
  const save = useMutation({
    mutationFn: () => call(path('save-template'), { Template: text, Audience: audience }),
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: ['report-templates'] });
      close();
    },
  });
  return (
    <Stack gap="sm">
      <Failure error={save.error} />
      <Textarea
        label={t('Template as YAML')}
        autosize
        minRows={12}
        maxRows={24}
        spellCheck={false}
        styles={{ input: { fontFamily: 'var(--mantine-font-family-monospace)', fontSize: 13 } }}
        value={text}
        onChange={(e) => setText(e.currentTarget.value)}
      />
      <Select
        label={t('Who may use it')}
        description={t('Whoever may use a template may read what its data source holds.')}
        data={audiences()}
        value={audience}
        allowDeselect={false}
        onChange={(next) => setAudience((next ?? 'none') as Audience)}
      />
      <Actions
        close={close}
        action={t('Check and save')}
        busy={save.isPending}
        onClick={() => save.mutate()}
      />
    </Stack>
  );
}

const EXAMPLE_PATH = '/srv/reports/players.csv';
const YAML = 'YAML';

const EXAMPLE = `name: Members
group: Club
source: sample
table: registrations
columns:
  - {key: personId, type: NUMBER, names: {en: Number}}
  - {key: lastName, type: STRING, names: {en: Name}}
`;

function TemplateDialog({ template, close }: { template: Template | null; close: () => void }) {
  const text = useQuery({
    queryKey: ['report-template-text', template?.id],
    queryFn: () => (template ? templateText(template.id) : EXAMPLE),
    gcTime: 0,
  });
  return (
    <Modal
      opened
      onClose={close}
      size="xl"
      title={template ? t('Edit {name}', { name: template.name }) : t('Add template')}
    >
      <Loaded query={text}>
        {(first) => <TemplateForm template={template} first={first} close={close} />}
      </Loaded>
    </Modal>
  );
}

/** A button of a row: a word to see, and all of it for those who hear it. */
function RowButton({
  label,
  name,
  ...button
}: ButtonProps & { label: string; name: string; onClick: () => void }) {
  return (
    <Button size="compact-sm" aria-label={name} {...button}>
      {label}
    </Button>
  );
}

export function Sources() {
  const sources = useSources();
  const templates = useTemplates();
  const client = useQueryClient();
  const { dialog, which } = useSearch({ strict: false }) as Search;
  const navigate = useNavigate();
  const open = (what: string, id?: string | number) =>
    navigate({ to: '.', search: { dialog: what, ...(id === undefined ? {} : { which: String(id) }) } });
  const close = () => navigate({ to: '.', search: {} });
  // What the open dialog is about.
  const source = sources.data?.find((s) => s.SourceID === which);
  const template = templates.data?.find((one) => String(one.id) === which);
  const who = session();
  const keep = useMutation({ mutationFn: downloadTemplate });
  const mine = (template: Template) => template.owner !== '' && template.owner === who?.username;
  return (
    <Page
      title={
        <>
          <AnchorLink to="/reports" inherit c="dimmed">
            {t('My reports')}
          </AnchorLink>{' '}
          / {t('Data sources and templates')}
        </>
      }
    >
      <Section
        title={t('Data sources')}
        aside={
          <Button variant="default" onClick={() => open('source')}>
            {t('Add data source')}
          </Button>
        }
      >
        <Loaded query={sources}>
          {(data) =>
            data.length === 0 ? (
              <Empty>{t('No data sources yet. Upload rows under My reports, or add a database.')}</Empty>
            ) : (
              <Table.ScrollContainer minWidth={520} className="boxed">
                <Table verticalSpacing={6}>
                  <Table.Thead>
                    <Table.Tr>
                      <Table.Th>{t('Name')}</Table.Th>
                      <Table.Th>{t('Kind')}</Table.Th>
                      <Table.Th>{t('Where')}</Table.Th>
                      <Table.Th>{t('Loaded')}</Table.Th>
                      <Table.Th />
                    </Table.Tr>
                  </Table.Thead>
                  <Table.Tbody>
                    {data.map((source) => (
                      <Table.Tr key={source.SourceID}>
                        <Table.Td>
                          {source.Name}
                          {source.Problem && (
                            <Text size="sm" c="red" role="alert">
                              {source.Problem}
                            </Text>
                          )}
                        </Table.Td>
                        <Table.Td>{kindName(source.Source.kind)}</Table.Td>
                        <Table.Td style={{ overflowWrap: 'anywhere' }}>{whereOf(source)}</Table.Td>
                        <Table.Td>
                          {source.Source.kind === 'watched' ? (
                            <Time unix={source.Source.loaded ?? 0} />
                          ) : (
                            <Tag tone="quiet">
                              {source.Source.kind === 'file' ? t('Once') : t('When asked')}
                            </Tag>
                          )}
                        </Table.Td>
                        <Table.Td>
                          <Group gap="xs" justify="flex-end" wrap="nowrap">
                            <RowButton
                              variant="light"
                              label={t('Tables')}
                              name={t('Tables of {name}', { name: source.Name })}
                              onClick={() => open('tables', source.SourceID)}
                            />
                            {source.Source.kind !== 'file' && (
                              <RowButton
                                variant="default"
                                label={t('Edit')}
                                name={t('Edit {name}', { name: source.Name })}
                                onClick={() => open('source', source.SourceID)}
                              />
                            )}
                            <RowButton
                              variant="subtle"
                              color="red"
                              label={t('Delete')}
                              name={t('Delete {name}', { name: source.Name })}
                              onClick={() => open('delete-source', source.SourceID)}
                            />
                          </Group>
                        </Table.Td>
                      </Table.Tr>
                    ))}
                  </Table.Tbody>
                </Table>
              </Table.ScrollContainer>
            )
          }
        </Loaded>
      </Section>
      <Section
        title={t('Templates')}
        aside={
          <Button variant="default" onClick={() => open('template')}>
            {t('Add template')}
          </Button>
        }
      >
        <Failure error={keep.error} />
        <Loaded query={templates}>
          {(data) => (
            <Table.ScrollContainer minWidth={300} className="boxed">
              <Table verticalSpacing={6}>
                <Table.Thead>
                  <Table.Tr>
                    <Table.Th>{t('Template')}</Table.Th>
                    <Table.Th visibleFrom="sm">{t('Group')}</Table.Th>
                    <Table.Th ta="right" visibleFrom="sm">
                      {t('Columns')}
                    </Table.Th>
                    <Table.Th>{t('Who may use it')}</Table.Th>
                    <Table.Th />
                  </Table.Tr>
                </Table.Thead>
                <Table.Tbody>
                  {data.map((template) => (
                    <Table.Tr key={template.id}>
                      <Table.Td>{template.name}</Table.Td>
                      <Table.Td visibleFrom="sm">{template.group}</Table.Td>
                      <Table.Td ta="right" visibleFrom="sm">
                        {template.columns.length}
                      </Table.Td>
                      <Table.Td>{audiences().find((a) => a.value === template.audience)?.label}</Table.Td>
                      <Table.Td>
                        <Group gap="xs" justify="flex-end" wrap="nowrap">
                          {mine(template) && (
                            <RowButton
                              variant="light"
                              label={t('Edit')}
                              name={t('Edit {name}', { name: template.name })}
                              onClick={() => open('template', template.id)}
                            />
                          )}
                          <RowButton
                            variant="default"
                            label={YAML}
                            name={t('Save {name} as YAML', { name: template.name })}
                            onClick={() => keep.mutate(template)}
                          />
                          {mine(template) && (
                            <RowButton
                              variant="subtle"
                              color="red"
                              label={t('Delete')}
                              name={t('Delete {name}', { name: template.name })}
                              onClick={() => open('delete-template', template.id)}
                            />
                          )}
                        </Group>
                      </Table.Td>
                    </Table.Tr>
                  ))}
                </Table.Tbody>
              </Table>
            </Table.ScrollContainer>
          )}
        </Loaded>
      </Section>
      {dialog === 'source' && (source || !which) && <SourceDialog source={source ?? null} close={close} />}
      {dialog === 'tables' && source && <TablesDialog source={source} close={close} />}
      {dialog === 'template' && (template || !which) && (
        <TemplateDialog template={template ?? null} close={close} />
      )}
      {dialog === 'delete-source' && source && (
        <DangerDialog
          opened
          close={close}
          title={t('Delete {name}?', { name: source.Name })}
          text={t('Templates of it, and reports made of them, can not be used any more.')}
          action={t('Delete')}
          run={async () => {
            await call(path('delete-source'), { SourceID: source.SourceID });
            await client.invalidateQueries({ queryKey: ['report-sources'] });
          }}
        />
      )}
      {dialog === 'delete-template' && template && (
        <DangerDialog
          opened
          close={close}
          title={t('Delete {name}?', { name: template.name })}
          text={t('Reports made of it can not be run any more.')}
          action={t('Delete')}
          run={async () => {
            await call(path('delete-template'), { Template: template.id });
            await client.invalidateQueries({ queryKey: ['report-templates'] });
          }}
        />
      )}
    </Page>
  );
}
