// How e-mail is sent, the reports that administrators get, and what became of the newest mails.
import { Alert, Button, Group, Stack, Text, TextInput } from '@mantine/core';
import { useMutation, useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { call } from '../../api/client';
import { useTopLevel } from '../../api/queries';
import type { AdminReport, MailOptions } from '../../api/types';
import { type Column, DataTable } from '../../components/DataTable';
import { newReport, ReportFields } from '../../components/EmailReports';
import { type Field, Fields, on, useSaved } from '../../components/Fields';
import { Failure, Loaded, Section, Tag, Time } from '../../components/parts';
import { t } from '../../i18n';
import { languageCodes, timeZones } from '../../lib/places';

type Mail = {
  ID: string;
  Recipient: string;
  Subject: string;
  State: 'waiting' | 'sent' | 'failed';
  Created: number;
  NextTry: number;
  Tries: number;
  Error: string;
};

const optionsQuery = {
  queryKey: ['email-options'],
  queryFn: () => call<MailOptions>('/api/v1/admin/meta/email-options/get'),
};

/** What says how mail is sent; `short` without what few need. */
export function mailFields(options: MailOptions, topLevel: boolean, short = false): Field[] {
  const own = options.Mode === 'smtp' || options.Mode === 'smtp-ssl';
  const all: Field[] = [
    {
      path: 'Mode',
      label: t('Sent by'),
      kind: 'select',
      options: [
        { value: '', label: topLevel ? t('Nobody') : t("The server's own mail server") },
        { value: 'smtp', label: t('A mail server (STARTTLS)') },
        { value: 'smtp-ssl', label: t('A mail server (TLS from the beginning)') },
        { value: 'disabled', label: t('Switched off') },
      ],
    },
    { path: 'FromName', label: t('Sender') },
    { path: 'FromEmail', label: t('Address of the sender') },
  ];
  if (!own) return all;
  return [
    ...all,
    { path: 'SMTPHost', label: t('Server') },
    {
      path: 'SMTPPort',
      label: t('Port'),
      help: t('0: {port}', { port: options.Mode === 'smtp' ? 587 : 465 }),
      kind: 'number',
      max: 65_535,
    },
    { path: 'SMTPUsername', label: t('User name'), help: t('Empty: without log-in') },
    { path: 'SMTPPassword', label: t('Password'), kind: 'secret' },
    ...(short ? [] : special()),
  ];
}

const special = (): Field[] => [
  { path: 'SMTPCustomEhlo', label: t('Name in the greeting (EHLO)') },
  on('SMTPAllowInvalidCertificate', t('Accept any certificate')),
  on('SMTPAllowUnencrypted', t('Accept an unencrypted connection')),
];

export function TestMail({ options }: { options: MailOptions }) {
  const [to, setTo] = useState('');
  const send = useMutation({
    mutationFn: () =>
      call('/api/v1/admin/meta/send-test-email', { EmailOptions: options, Recipient: to.trim() }),
  });
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        send.mutate();
      }}
    >
      <Stack gap="xs">
        <Group gap="xs" align="flex-end">
          <TextInput
            w={300}
            type="email"
            required
            label={t('Try these settings')}
            placeholder={t('Where to')}
            value={to}
            onChange={(e) => setTo(e.currentTarget.value)}
          />
          <Button type="submit" variant="default" loading={send.isPending}>
            {t('Send a test e-mail')}
          </Button>
        </Group>
        <Failure error={send.error} />
        {send.isSuccess && (
          <Alert color="teal" variant="light" role="status">
            {t('The mail server took it over.')}
          </Alert>
        )}
      </Stack>
    </form>
  );
}

const newAdminReport = (): AdminReport => ({
  EmailReportConfig: newReport(1),
  LanguageCode: 'en_US',
  LocalTimezone: Intl.DateTimeFormat().resolvedOptions().timeZone,
  Recipients: [],
});

function AdminReports({ value, set }: { value: AdminReport[]; set: (next: AdminReport[]) => void }) {
  const send = useMutation({
    mutationFn: (report: AdminReport) =>
      call('/api/v1/admin/meta/send-test-report', { EmailReportingOption: report }),
  });
  return (
    <Section title={t('Reports for administrators')} help={t('About all accounts that they may see.')}>
      <Failure error={send.error} />
      {send.isSuccess && (
        <Alert color="teal" variant="light" role="status">
          {t('Handed over for delivery.')}
        </Alert>
      )}
      {value.length === 0 && (
        <Text size="sm" c="dimmed">
          {t('No reports.')}
        </Text>
      )}
      {value.map((report, index) => {
        const change = (next: AdminReport) => set(value.map((old, i) => (i === index ? next : old)));
        return (
          <div
            className="box"
            // The list has no names of its own.
            key={`${index}-${value.length}`}
          >
            <Stack gap="xs">
              <ReportFields
                report={report.EmailReportConfig}
                change={(EmailReportConfig) => change({ ...report, EmailReportConfig })}
                remove={() => set(value.filter((_, i) => i !== index))}
              />
              <Fields
                doc={report}
                change={change}
                cols={3}
                fields={[
                  { path: 'Recipients', label: t('Recipients'), kind: 'list' },
                  { path: 'LanguageCode', label: t('Language'), kind: 'select', options: languageCodes() },
                  {
                    path: 'LocalTimezone',
                    label: t('Time zone'),
                    kind: 'select',
                    options: timeZones(report.LocalTimezone),
                  },
                ]}
              />
              <Button
                variant="default"
                size="compact-sm"
                w="fit-content"
                disabled={report.Recipients.length === 0}
                loading={send.isPending}
                onClick={() => send.mutate(report)}
              >
                {t('Send it now')}
              </Button>
            </Stack>
          </div>
        );
      })}
      <Button variant="default" w="fit-content" onClick={() => set([...value, newAdminReport()])}>
        {t('Add report')}
      </Button>
    </Section>
  );
}

const states = (): Record<Mail['State'], string> => ({
  waiting: t('Waiting'),
  sent: t('Sent'),
  failed: t('Failed'),
});
const TONES = { waiting: 'busy', sent: 'good', failed: 'bad' } as const;

function Queue() {
  const mails = useQuery({
    queryKey: ['mails'],
    queryFn: () => call<Mail[]>('/api/encke/v1/email/list'),
    refetchInterval: 5000,
  });
  const columns: Column<Mail>[] = [
    {
      key: 'state',
      label: t('State'),
      width: 110,
      value: (m) => states()[m.State],
      cell: (m) => <Tag tone={TONES[m.State]}>{states()[m.State]}</Tag>,
    },
    { key: 'to', label: t('To'), width: 220, value: (m) => m.Recipient },
    { key: 'subject', label: t('Subject'), width: 300, value: (m) => m.Subject },
    {
      key: 'created',
      label: t('Written'),
      width: 130,
      descending: true,
      value: (m) => m.Created,
      cell: (m) => <Time unix={m.Created} />,
    },
    {
      key: 'next',
      label: t('Next try'),
      width: 130,
      value: (m) => m.NextTry,
      cell: (m) => <Time unix={m.NextTry} />,
    },
    { key: 'error', label: t('Last failure'), width: 320, value: (m) => m.Error },
  ];
  return (
    <Section title={t('Newest e-mails')} help={t('What was sent is shown for a week.')}>
      <Loaded query={mails}>
        {(rows) => (
          <DataTable
            plain
            name="mails"
            label={t('e-mails')}
            rows={rows}
            columns={columns}
            id={(m) => m.ID}
            sort="created"
            limit={50}
            empty={t('No e-mail yet.')}
          />
        )}
      </Loaded>
    </Section>
  );
}

function Editor({ stored }: { stored: MailOptions }) {
  const { draft, setDraft, bar } = useSaved(
    stored,
    (EmailOptions) => call('/api/v1/admin/meta/email-options/set', { EmailOptions }),
    ['email-options', 'config', 'mails'],
  );
  const topLevel = useTopLevel() === true;
  return (
    <Stack gap="xl" maw={980}>
      <Section title={t('E-mail')} help={t('In force as soon as it is saved.')}>
        <Fields doc={draft} change={setDraft} fields={mailFields(draft, topLevel)} />
        <TestMail options={draft} />
      </Section>
      <AdminReports
        value={draft.EmailReportingOptions ?? []}
        set={(EmailReportingOptions) => setDraft({ ...draft, EmailReportingOptions })}
      />
      {bar}
      <Queue />
    </Stack>
  );
}

export function MailSettings() {
  const options = useQuery(optionsQuery);
  return <Loaded query={options}>{(stored) => <Editor stored={stored} />}</Loaded>;
}
