// The server's settings: a form for each part, and the whole document for experts.
import { Group, Stack, Tabs, Text } from '@mantine/core';
import { useMutation, useQuery } from '@tanstack/react-query';
import { Link, useNavigate } from '@tanstack/react-router';
import type { ReactNode } from 'react';
import { call } from '../../api/client';
import { accountQuery, configQuery, saveConfig, useTopLevel } from '../../api/queries';
import type { BrandingOptions, ServerConfig } from '../../api/types';
import { BrandingForm } from '../../components/BrandingForm';
import { DangerButton } from '../../components/Danger';
import { FieldList, Fields, on, useSaved } from '../../components/Fields';
import { JsonDocument } from '../../components/JsonDocument';
import { Failure, Loaded, Page, Section } from '../../components/parts';
import { t } from '../../i18n';
import { newId } from '../../lib/format';
import { useParam, useTabInSight } from '../../lib/search';
import { ExternalLogin } from './ExternalLogin';
import { MailSettings } from './MailSettings';
import { otherServer } from './otherServer';
import { SelfBackup } from './SelfBackup';
import { eventFields, Webhooks } from './Webhooks';

type Props = { doc: ServerConfig; change: (next: ServerConfig) => void };

function General(part: Props) {
  return (
    <>
      <Section title={t('Sessions')}>
        <Fields
          {...part}
          fields={[
            {
              path: 'SessionSettings.ExpiredInSeconds',
              label: t('Sign out after idle time'),
              help: t('Hours; 0: half an hour'),
              kind: 'hours',
              max: 48,
            },
          ]}
        />
      </Section>
      <Section title={t('Protection of log-ins')}>
        <Fields
          {...part}
          cols={3}
          fields={[
            on('LoginProtection.Enabled', t('Slow down who guesses')),
            { path: 'LoginProtection.FailureThreshold', label: t('Failures until then'), kind: 'number' },
            { path: 'LoginProtection.CooldownSeconds', label: t('Pause in seconds'), kind: 'number' },
          ]}
        />
      </Section>
      <Section title={t('Network')}>
        <Fields
          {...part}
          fields={[
            on(
              'TrustXForwardedFor',
              t('Believe X-Forwarded-For'),
              t('Only where a proxy of your own stands before this server'),
            ),
          ]}
        />
        <FieldList
          {...part}
          path="ListenAddresses"
          add={t('Add address')}
          empty={t('As the command line says.')}
          create={() => ({ ListenAddress: ':8060' })}
          fields={[
            { path: 'ListenAddress', label: t('Listens at'), help: t('Such as :8060 or 127.0.0.1:8060') },
            { path: 'AutoSSLDomains', label: t('Domains with certificates made by themselves') },
            { path: 'SSLCertPath', label: t('File of the certificate') },
            { path: 'SSLCertKey', label: t('File of its key') },
          ]}
        />
      </Section>
      <Section
        title={t('Speed limits')}
        help={t('The first rule that fits counts; all who fit share the speed.')}
      >
        <FieldList
          {...part}
          path="IPRateLimit.Rules"
          add={t('Add limit')}
          empty={t('No limits.')}
          create={() => ({ MatchRegex: '', BytesPerSecond: 0 })}
          fields={[
            { path: 'MatchRegex', label: t('Addresses that match'), help: t('A regular expression') },
            { path: 'BytesPerSecond', label: t('Bytes per second'), kind: 'number' },
          ]}
        />
      </Section>
      <AuditFiles {...part} />
    </>
  );
}

/** Events as lines of files. Files have names of their own in the document, which nobody needs to see. */
function AuditFiles({ doc, change }: Props) {
  const list = Object.entries(doc.AuditFileOptions ?? {}).map(([Name, file]) => ({ ...file, Name }));
  const types = list.flatMap((file) => file.AllowEventTypes ?? []);
  return (
    <Section
      title={t('Audit files')}
      help={t('Events as lines of JSON, a file a day, in the folder logs/audit of the server.')}
    >
      <FieldList
        doc={{ list }}
        change={(next) =>
          change({
            ...doc,
            AuditFileOptions: Object.fromEntries(next.list.map(({ Name, ...file }) => [Name, file])),
          })
        }
        path="list"
        add={t('Add file')}
        empty={t('No files.')}
        create={() => ({ Name: newId(), Filename: 'audit', Level: 'full', PruningEnabled: true })}
        fields={[
          { path: 'Filename', label: t('Name of the file'), help: t('Before the date'), required: true },
          ...eventFields(t('How much is written'), 'AllowEventTypes', types),
          on('PruningEnabled', t('Remove old files')),
          {
            path: 'PruningLimit',
            label: t('Days that files are kept'),
            help: t('0: as long as jobs'),
            kind: 'number',
          },
        ]}
      />
    </Section>
  );
}

function Roles(part: Props) {
  return (
    <>
      <Section title={t('Accounts and jobs')}>
        <Fields
          {...part}
          fields={[
            on('AuthenticationRole.RoleEnabled', t('This server keeps accounts')),
            {
              path: 'AuthenticationRole.PruneLogsAfterDays',
              label: t('Keep jobs for'),
              help: t('Days; 0: 90'),
              kind: 'number',
            },
            on('AuthenticationRole.GenerateMissedBackupEvents', t('Report missed backups')),
            on('AuthenticationRole.GenerateScheduledEmails', t('Send scheduled reports')),
            {
              path: 'AuthenticationRole.GlobalOverrides.RandomDelaySecs',
              label: t('Random delay of all schedules'),
              help: t('Spreads the load'),
              kind: 'hours',
              max: 5,
            },
          ]}
        />
      </Section>
      <Section title={t('Storage Role')}>
        <Fields
          {...part}
          fields={[
            on('StorageRole.RoleEnabled', t('This server stores data')),
            {
              path: 'StorageRole.Storage.LocalcopyPath',
              label: t('Folder of the buckets'),
              help: t('Empty: in the folder of the server'),
            },
          ]}
        />
      </Section>
      <Section title={t('Other roles')}>
        <Fields
          {...part}
          fields={[
            on('SoftwareBuildRole.RoleEnabled', t('Build branded clients')),
            on('SoftwareBuildRole.AllowUnauthenticatedDownloads', t('Downloads without signing in')),
          ]}
        />
      </Section>
      <Section
        title={t('Cluster')}
        help={
          <>
            {t('One server asks all others which buckets they have and who uses them.')}{' '}
            <Link to="/cluster">{t('Report')}</Link>
          </>
        }
      >
        <Fields
          {...part}
          fields={[
            on('ConstellationRole.RoleEnabled', t('Watch which buckets are used')),
            on(
              'ConstellationRole.DeleteUnusedData',
              t('Delete unused buckets'),
              t('Every hour. Only where every server of the cluster is listed'),
            ),
          ]}
        />
        <FieldList
          {...part}
          path="ConstellationRole.Servers"
          add={t('Add server')}
          empty={t('This server alone.')}
          create={() => ({
            Type: 'comet',
            Description: '',
            RemoteAddress: 'https://',
            Username: '',
            Password: '',
          })}
          fields={otherServer()}
        />
      </Section>
    </>
  );
}

function Power() {
  const restart = useMutation({ mutationFn: () => call('/api/v1/admin/meta/restart-service') });
  const stop = useMutation({ mutationFn: () => call('/api/v1/admin/meta/shutdown-service') });
  return (
    <Section
      title={t('Restart and stop')}
      help={t('Devices connect again by themselves; running backups go on.')}
    >
      <Failure error={restart.error ?? stop.error} />
      <Group gap="xs">
        <DangerButton
          label={t('Restart the server')}
          dialog="restart"
          title={t('Restart the server')}
          text={t('The console is away for a moment.')}
          button={{ variant: 'light', size: 'xs' }}
          run={() => restart.mutateAsync()}
        />
        <DangerButton
          label={t('Stop the server')}
          dialog="stop"
          title={t('Stop the server')}
          text={t('Somebody has to start it again on its machine.')}
          word={location.hostname}
          button={{ variant: 'light', size: 'xs' }}
          run={() => stop.mutateAsync()}
        />
      </Group>
    </Section>
  );
}

function Forms({ config, tab }: { config: ServerConfig; tab: string }) {
  const { draft, setDraft, changed, save, bar } = useSaved(config, saveConfig, [
    'config',
    'branding',
    'version',
    'templates',
  ]);
  const part = { doc: draft, change: setDraft };
  return (
    <Stack gap="xl" maw={980}>
      {tab === 'general' && (
        <>
          <General {...part} />
          <Power />
        </>
      )}
      {tab === 'roles' && <Roles {...part} />}
      {tab === 'copies' && <SelfBackup {...part} changed={changed} />}
      {tab === 'branding' && (
        <Section
          title={t('Branding')}
          help={t('Seen by everybody who does not come by the host name of a tenant.')}
        >
          <BrandingForm
            doc={draft.Branding ?? ({} as BrandingOptions)}
            change={(Branding) => setDraft({ ...draft, Branding })}
          />
        </Section>
      )}
      {tab === 'document' && (
        <JsonDocument
          document={draft}
          schema="ServerConfigOptions"
          save={(next) => save.mutateAsync(next as ServerConfig)}
        />
      )}
      {bar}
    </Stack>
  );
}

const LoginSources = () => (
  <Stack gap="xl" maw={980}>
    <ExternalLogin />
  </Stack>
);

/** What a tenant's administrator may set. */
function TenantTabs() {
  const account = useQuery(accountQuery());
  const [wanted] = useParam('tab');
  const navigate = useNavigate();
  const may = account.data?.Permissions;
  const tabs: [string, string, () => ReactNode][] = [['branding', t('Branding'), TenantBranding]];
  if (may?.AllowEditEmailOptions) tabs.push(['mail', t('E-mail'), MailSettings]);
  if (may?.AllowEditWebhooks) tabs.push(['webhooks', t('Webhooks'), Webhooks]);
  if (may?.AllowEditExternalAuthSources) tabs.push(['login', t('External log-in'), LoginSources]);
  const tab = tabs.find(([key]) => key === wanted)?.[0] ?? 'branding';
  if (tabs.length === 1) return <TenantBranding />;
  return (
    <Tabs value={tab} onChange={(next) => next && navigate({ to: '.', search: { tab: next } })}>
      <Tabs.List className="tabs" mb="md">
        {tabs.map(([key, label]) => (
          <Tabs.Tab key={key} value={key}>
            {label}
          </Tabs.Tab>
        ))}
      </Tabs.List>
      {tabs.map(([key, , Part]) => (
        <Tabs.Panel key={key} value={key}>
          {key === tab && <Part />}
        </Tabs.Panel>
      ))}
    </Tabs>
  );
}

function TenantBranding() {
  const branding = useQuery({
    queryKey: ['branding-config'],
    queryFn: () => call<{ Branding: BrandingOptions }>('/api/v1/admin/meta/branding-config/get'),
  });
  return <Loaded query={branding}>{({ Branding }) => <BrandingEditor stored={Branding} />}</Loaded>;
}

function BrandingEditor({ stored }: { stored: BrandingOptions }) {
  const { draft, setDraft, bar } = useSaved(
    stored,
    (BrandingConfig) => call('/api/v1/admin/meta/branding-config/set', { BrandingConfig }),
    ['branding', 'branding-config'],
  );
  return (
    <Section title={t('Branding')}>
      <BrandingForm doc={draft} change={setDraft} />
      {bar}
    </Section>
  );
}

export function Settings() {
  const topLevel = useTopLevel();
  const config = useQuery({ ...configQuery(), enabled: topLevel === true });
  const [wanted] = useParam('tab');
  useTabInSight(wanted);
  const navigate = useNavigate();
  if (topLevel === false) {
    return (
      <Page title={t('Settings')}>
        <TenantTabs />
      </Page>
    );
  }
  const tabs: [string, string][] = [
    ['general', t('General')],
    ['roles', t('Roles')],
    ['mail', t('E-mail')],
    ['webhooks', t('Webhooks')],
    ['login', t('External log-in')],
    ['copies', t('Self-backup')],
    ['branding', t('Branding')],
    ['document', t('Document')],
  ];
  const tab = tabs.some(([key]) => key === wanted) ? wanted : 'general';
  return (
    <Page title={t('Settings')}>
      <Tabs value={tab} onChange={(next) => next && navigate({ to: '.', search: { tab: next } })}>
        <Tabs.List className="tabs" mb="md">
          {tabs.map(([key, label]) => (
            <Tabs.Tab key={key} value={key}>
              {label}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        {tabs.map(([key]) => (
          <Tabs.Panel key={key} value={key}>
            {key === tab && key === 'login' && <LoginSources />}
            {key === tab && key === 'mail' && <MailSettings />}
            {key === tab && key === 'webhooks' && <Webhooks />}
            {key === tab && !['login', 'mail', 'webhooks'].includes(key) && (
              <>
                <Text size="sm" c="dimmed" mb="md">
                  {t('The server starts anew when these are saved; devices connect again by themselves.')}
                </Text>
                <Loaded query={config}>{(data) => <Forms config={data} tab={tab} />}</Loaded>
              </>
            )}
          </Tabs.Panel>
        ))}
      </Tabs>
      <Text size="sm" c="dimmed">
        <Link to="/storage" search={{ tab: 'templates' }}>
          {t('Storage templates')}
        </Link>{' '}
        · <Link to="/admins">{t('Administrators')}</Link> · <Link to="/tenants">{t('Tenants')}</Link>
      </Text>
    </Page>
  );
}
