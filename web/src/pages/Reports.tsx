// My reports: saved ones and those that others share; their codes, files and shares.
import {
  Badge,
  Button,
  CopyButton,
  FileButton,
  Group,
  Menu,
  Modal,
  Stack,
  Table,
  TagsInput,
  Text,
  TextInput,
} from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { useState } from 'react';
import { call } from '../api/client';
import { isAdmin } from '../api/queries';
import {
  type Format,
  generateCode,
  type LogEntry,
  path,
  type SavedReport,
  saveReport,
  type UploadProgress,
  uploadTable,
  useReports,
  useTemplates,
} from '../api/reports';
import { DangerDialog } from '../components/Danger';
import { Actions, Empty, Failure, Loaded, Page, Time } from '../components/parts';
import { t } from '../i18n';
import type { Search } from '../lib/search';
import { ScheduleDialog } from './reports/ScheduleDialog';
import { ExportDialog, Uploading } from './reports/Transfers';

function CodeDialog({ report, close }: { report: SavedReport; close: () => void }) {
  const client = useQueryClient();
  const id = report.ReportID;
  const [addresses, setAddresses] = useState(report.Code?.Addresses ?? '');
  const expires = report.Code?.Expires ?? 0;
  const [day, setDay] = useState(expires ? new Date(expires * 1000).toISOString().slice(0, 10) : '');
  const refresh = () => client.invalidateQueries({ queryKey: ['reports'] });
  const code = useQuery({
    queryKey: ['report-code', id],
    queryFn: async () => {
      const made = await generateCode(id);
      await refresh();
      return made;
    },
    retry: false,
  });
  const log = useQuery({
    queryKey: ['report-log', id],
    queryFn: () => call<LogEntry[]>(path('code-log'), { ReportID: id }),
    // Calls come from elsewhere, without an event.
    staleTime: 0,
    refetchInterval: 5000,
  });
  const rotate = useMutation({
    mutationFn: () => call(path('rotate-code'), { ReportID: id }),
    onSuccess: () => client.invalidateQueries({ queryKey: ['report-code', id] }),
  });
  const limit = useMutation({
    mutationFn: () =>
      call(path('limit-code'), {
        ReportID: id,
        Addresses: addresses,
        // The whole of the last day.
        Expires: day ? Date.parse(`${day}T23:59:59Z`) / 1000 : 0,
      }),
    onSuccess: refresh,
  });
  const revoke = useMutation({
    mutationFn: () => call(path('revoke-code'), { ReportID: id }),
    onSuccess: async () => {
      client.removeQueries({ queryKey: ['report-code', id] });
      await refresh();
      close();
    },
  });
  return (
    <Modal opened onClose={close} title={t('API code of {name}', { name: report.Name })} size="lg">
      <Stack gap="sm">
        <Failure error={code.error ?? rotate.error ?? limit.error ?? revoke.error} />
        {code.data && (
          <>
            <TextInput
              label={t('Address to pull the rows from')}
              description={t(
                'Whoever has it can read this report, without an account. At most 10 calls a second.',
              )}
              readOnly
              data-autofocus
              value={location.origin + code.data.Path}
            />
            <Group gap="xs">
              <CopyButton value={location.origin + code.data.Path}>
                {({ copied, copy }) => (
                  <Button onClick={copy} color={copied ? 'teal' : undefined}>
                    {copied ? t('Copied') : t('Copy address')}
                  </Button>
                )}
              </CopyButton>
              <CopyButton value={code.data.APICode}>
                {({ copied, copy }) => (
                  <Button variant="default" onClick={copy}>
                    {copied ? t('Copied') : t('Copy code alone')}
                  </Button>
                )}
              </CopyButton>
              <Button variant="default" loading={rotate.isPending} onClick={() => rotate.mutate()}>
                {t('Replace code')}
              </Button>
              <Button color="red" variant="light" loading={revoke.isPending} onClick={() => revoke.mutate()}>
                {t('Revoke code')}
              </Button>
            </Group>
            <Group align="flex-end" gap="xs">
              <TextInput
                w={150}
                type="date"
                label={t('Valid until')}
                value={day}
                onChange={(e) => setDay(e.currentTarget.value)}
              />
              <TextInput
                flex="1 1 200px"
                label={t('Only from these addresses')}
                placeholder="192.0.2.0/24"
                value={addresses}
                onChange={(e) => setAddresses(e.currentTarget.value)}
              />
              <Button variant="default" loading={limit.isPending} onClick={() => limit.mutate()}>
                {t('Set limits')}
              </Button>
            </Group>
          </>
        )}
        <Text fw={600}>{t('Use')}</Text>
        <Loaded query={log}>
          {(entries) =>
            entries.length === 0 ? (
              <Empty>{t('Nobody has called yet.')}</Empty>
            ) : (
              <Table.ScrollContainer minWidth={300} maxHeight={240}>
                <Table verticalSpacing={4}>
                  <Table.Thead>
                    <Table.Tr>
                      <Table.Th>{t('When')}</Table.Th>
                      <Table.Th>{t('From')}</Table.Th>
                      <Table.Th>{t('Answer')}</Table.Th>
                      <Table.Th ta="right">{t('Calls')}</Table.Th>
                      <Table.Th ta="right">{t('Rows')}</Table.Th>
                    </Table.Tr>
                  </Table.Thead>
                  <Table.Tbody>
                    {entries.slice(0, 100).map((e) => (
                      <Table.Tr key={`${e.Minute} ${e.Address} ${e.Status}`}>
                        <Table.Td>
                          <Time unix={e.Minute} />
                        </Table.Td>
                        <Table.Td>{e.Address}</Table.Td>
                        <Table.Td>{e.Status}</Table.Td>
                        <Table.Td ta="right">{e.Calls}</Table.Td>
                        <Table.Td ta="right">{e.Rows}</Table.Td>
                      </Table.Tr>
                    ))}
                  </Table.Tbody>
                </Table>
              </Table.ScrollContainer>
            )
          }
        </Loaded>
      </Stack>
    </Modal>
  );
}

type Shares = { Users: string[]; Admins: string[] };

function ShareForm({ report, first, close }: { report: SavedReport; first: Shares; close: () => void }) {
  const client = useQueryClient();
  const [users, setUsers] = useState(first.Users);
  const [admins, setAdmins] = useState(first.Admins);
  const share = useMutation({
    mutationFn: () =>
      call(path('share'), { ReportID: report.ReportID, Users: users.join(','), Admins: admins.join(',') }),
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: ['report-shares', report.ReportID] });
      close();
    },
  });
  return (
    <Stack gap="sm">
      <Failure error={share.error} />
      <Text size="sm" c="dimmed">
        {t('They see the rows that they may read themselves.')}
      </Text>
      <TagsInput
        label={t('Accounts')}
        value={users}
        onChange={setUsers}
        placeholder={t('Account name, then Enter')}
        data-autofocus
      />
      {isAdmin() && (
        <TagsInput
          label={t('Administrators')}
          value={admins}
          onChange={setAdmins}
          placeholder={t('Name, then Enter')}
        />
      )}
      <Actions close={close} action={t('Share')} busy={share.isPending} onClick={() => share.mutate()} />
    </Stack>
  );
}

function ShareDialog({ report, close }: { report: SavedReport; close: () => void }) {
  const shares = useQuery({
    queryKey: ['report-shares', report.ReportID],
    queryFn: () => call<Shares>(path('list-shares'), { ReportID: report.ReportID }),
    gcTime: 0,
  });
  return (
    <Modal opened onClose={close} title={t('Share {name}', { name: report.Name })}>
      <Loaded query={shares}>{(first) => <ShareForm report={report} first={first} close={close} />}</Loaded>
    </Modal>
  );
}

/** A dialog, which has an address, or an export. */
type Opened = { what: 'code' | 'share' | 'schedule' | 'delete' | Format; report: SavedReport };

const formats = (): [Format, string][] => [
  ['csv', t('Export as CSV')],
  ['xlsx', t('Export as XLSX')],
  ['pdf', t('Export as PDF')],
  ['parquet', t('Export as Parquet')],
];

function Row({
  report,
  template,
  open,
}: {
  report: SavedReport;
  template?: string;
  open: (o: Opened) => void;
}) {
  const client = useQueryClient();
  const copy = useMutation({
    mutationFn: () => saveReport({ ...report.Report, name: t('{name} (copy)', { name: report.Name }) }),
    onSuccess: () => client.invalidateQueries({ queryKey: ['reports'] }),
  });
  const error = copy.error;
  return (
    <Table.Tr>
      <Table.Td>
        {report.Own ? (
          <Link to="/reports/$id" params={{ id: report.ReportID }}>
            {report.Name}
          </Link>
        ) : (
          <>
            {report.Name}{' '}
            <Badge variant="light" tt="none">
              {t('shared by {name}', { name: report.Owner })}
            </Badge>
          </>
        )}
        {error && (
          <Text size="sm" c="red" role="alert">
            {error.message}
          </Text>
        )}
      </Table.Td>
      <Table.Td visibleFrom="sm">{template ?? '–'}</Table.Td>
      <Table.Td ta="right" visibleFrom="sm">
        {report.Report.columns.length}
      </Table.Td>
      <Table.Td visibleFrom="xs">
        {report.Code ? (
          <Badge variant="light" color="teal" tt="none">
            {t('API code')}
          </Badge>
        ) : null}
      </Table.Td>
      <Table.Td>
        <Group gap="xs" justify="flex-end" wrap="nowrap">
          <Menu position="bottom-end">
            <Menu.Target>
              <Button
                size="compact-sm"
                variant="light"
                aria-label={t('Options of {name}', { name: report.Name })}
                loading={copy.isPending}
              >
                {t('Options')}
              </Button>
            </Menu.Target>
            <Menu.Dropdown>
              {report.Own && (
                <Menu.Item onClick={() => open({ what: 'code', report })}>
                  {report.Code ? t('API code') : t('Generate API code')}
                </Menu.Item>
              )}
              {report.Own && (
                <Menu.Item onClick={() => open({ what: 'share', report })}>{t('Share')}</Menu.Item>
              )}
              {report.Own && (
                <Menu.Item onClick={() => open({ what: 'schedule', report })}>
                  {t('Send by e-mail')}
                </Menu.Item>
              )}
              <Menu.Item onClick={() => copy.mutate()}>{t('Duplicate')}</Menu.Item>
              <Menu.Divider />
              {formats().map(([format, label]) => (
                <Menu.Item key={format} onClick={() => open({ what: format, report })}>
                  {label}
                </Menu.Item>
              ))}
              {report.Own && (
                <>
                  <Menu.Divider />
                  <Menu.Item color="red" onClick={() => open({ what: 'delete', report })}>
                    {t('Delete')}
                  </Menu.Item>
                </>
              )}
            </Menu.Dropdown>
          </Menu>
        </Group>
      </Table.Td>
    </Table.Tr>
  );
}

export function Reports() {
  const reports = useReports();
  const templates = useTemplates();
  const client = useQueryClient();
  const navigate = useNavigate();
  const { dialog: what, which } = useSearch({ strict: false }) as Search;
  const [exported, setExported] = useState<Opened | null>(null);
  const open = (next: Opened) => {
    if (formats().some(([format]) => format === next.what)) setExported(next);
    else navigate({ to: '.', search: { dialog: next.what, which: next.report.ReportID } });
  };
  const close = () => navigate({ to: '.', search: {} });
  const sample = useMutation({
    mutationFn: () => call(path('save-sample')),
    onSuccess: () => client.invalidateQueries({ queryKey: ['reports'] }),
  });
  const [progress, setProgress] = useState<UploadProgress | null>(null);
  const upload = useMutation({
    mutationFn: (file: File) => uploadTable(file, setProgress),
    onSettled: () => setProgress(null),
    onSuccess: async (template) => {
      await client.invalidateQueries({ queryKey: ['report-templates'] });
      await navigate({ to: '/reports/new', search: { template: String(template) } });
    },
  });
  const current = reports.data?.find((r) => r.ReportID === which);
  return (
    <Page
      title={t('My reports')}
      aside={
        <>
          <Button variant="default" onClick={() => sample.mutate()} loading={sample.isPending}>
            {t('Add sample report')}
          </Button>
          <FileButton
            accept=".csv,.tsv,.jsonl,.ndjson,.xlsx,.parquet,.sqlite,.db"
            onChange={(file) => file && upload.mutate(file)}
          >
            {(props) => (
              <Button variant="default" {...props} loading={upload.isPending}>
                {t('Upload rows')}
              </Button>
            )}
          </FileButton>
          <Button variant="default" onClick={() => navigate({ to: '/reports/sources' })}>
            {t('Data sources')}
          </Button>
          <Button onClick={() => navigate({ to: '/reports/new', search: {} })}>{t('New report')}</Button>
        </>
      }
    >
      <Failure error={sample.error ?? upload.error} />
      {progress && <Uploading progress={progress} />}
      <Loaded query={reports}>
        {(data) =>
          data.length === 0 ? (
            <Empty>{t('No reports yet. The sample report shows how one is shared by API code.')}</Empty>
          ) : (
            <Table.ScrollContainer minWidth={300} className="boxed">
              <Table highlightOnHover verticalSpacing={6}>
                <Table.Thead>
                  <Table.Tr>
                    <Table.Th>{t('Report')}</Table.Th>
                    <Table.Th visibleFrom="sm">{t('Template')}</Table.Th>
                    <Table.Th ta="right" visibleFrom="sm">
                      {t('Columns')}
                    </Table.Th>
                    <Table.Th visibleFrom="xs" />
                    <Table.Th />
                  </Table.Tr>
                </Table.Thead>
                <Table.Tbody>
                  {data.map((report) => (
                    <Row
                      key={report.ReportID}
                      report={report}
                      template={templates.data?.find((one) => one.id === report.Report.template)?.name}
                      open={open}
                    />
                  ))}
                </Table.Tbody>
              </Table>
            </Table.ScrollContainer>
          )
        }
      </Loaded>
      {what === 'code' && current && <CodeDialog report={current} close={close} />}
      {what === 'schedule' && current && <ScheduleDialog report={current} close={close} />}
      {what === 'share' && current && <ShareDialog report={current} close={close} />}
      {formats().map(
        ([format]) =>
          exported?.what === format && (
            <ExportDialog
              key={format}
              report={exported.report}
              format={format}
              close={() => setExported(null)}
            />
          ),
      )}
      {what === 'delete' && current && (
        <DangerDialog
          opened
          close={close}
          title={t('Delete {name}?', { name: current.Name })}
          text={t('Its API code stops working at once.')}
          action={t('Delete report')}
          run={async () => {
            await call(path('delete'), { ReportID: current.ReportID });
            await client.invalidateQueries({ queryKey: ['reports'] });
          }}
        />
      )}
    </Page>
  );
}
