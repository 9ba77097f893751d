// A policy: what accounts under it may do, what is proposed to them and what is enforced.
import {
  Button,
  Group,
  NumberInput,
  Select,
  SimpleGrid,
  Stack,
  Switch,
  Text,
  TextInput,
} from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useNavigate, useParams } from '@tanstack/react-router';
import { useMemo } from 'react';
import { call } from '../../api/client';
import { tenantsQuery, useProfiles, useTopLevel } from '../../api/queries';
import type { GroupPolicy, UserPolicy } from '../../api/types';
import { EmailReports } from '../../components/EmailReports';
import { type Field, Fields, SaveBar, useDraft } from '../../components/Fields';
import { JsonDocument } from '../../components/JsonDocument';
import { AnchorLink } from '../../components/links';
import { Empty, Loaded, Page, Section } from '../../components/parts';
import { RetentionEditor } from '../../components/RetentionEditor';
import { plural, t } from '../../i18n';
import { newId } from '../../lib/format';
import { engineOptions } from '../../lib/items';
import { keepAll } from '../../lib/schedule';
import { VAULT_TYPES, vaultKind } from '../../lib/vaults';
import { DefaultItems } from './DefaultItems';

const states = () => [
  { value: '0', label: t('As the system does it') },
  { value: '1', label: t('On, may be changed') },
  { value: '2', label: t('Off, may be changed') },
  { value: '3', label: t('On, enforced') },
  { value: '4', label: t('Off, enforced') },
];

const mode = (path: string, label: string, help?: string): Field => ({
  path,
  label,
  help,
  kind: 'select',
  numeric: true,
  options: states(),
});
const on = (path: string, label: string, help?: string): Field => ({ path, label, help, kind: 'switch' });
/** The policy forbids; the switch says what is allowed. */
const may = (path: string, label: string): Field => ({ path, label, kind: 'switch', inverted: true });

function modes(): Field[] {
  return [
    mode('ModeScheduleSkipAlreadyRunning', t('Skip a backup while one is running')),
    mode('ModeScheduleLastJobFailDoRetry', t('Try again after a failure')),
    mode(
      'ModeAdminResetPassword',
      t('Administrators can reset the password'),
      t('Off, enforced: recovery codes are deleted'),
    ),
    mode('ModeAdminViewFilenames', t('Administrators can see file names')),
    mode('ModeRequireUserResetPassword', t('New accounts must choose a new password')),
  ];
}

const vaultRights = () => [
  may('PreventRequestStorageVault', t('Add Storage Vaults by template')),
  may('PreventAddCustomStorageVault', t('Add Storage Vaults of their own')),
  may('PreventEditStorageVault', t('Change Storage Vaults')),
  may('PreventDeleteStorageVault', t('Delete Storage Vaults')),
  may('PreventDeleteSingleSnapshots', t('Delete single snapshots')),
  on('AllowEditObjectLockRetention', t('Change the object lock')),
  may('HideCloudStorageBranding', t('See the real kind of cloud storage')),
];

const itemRights = () => [
  may('PreventNewProtectedItem', t('Add Protected Items')),
  may('PreventEditProtectedItem', t('Change Protected Items')),
  may('PreventDeleteProtectedItem', t('Delete Protected Items')),
  may('PreventProtectedItemRetention', t('Own retention for Protected Items')),
];

const appRights = () => [
  may('PreventOpenWebUI', t('Use this web console')),
  may('PreventOpenAppUI', t('Open the app on the device')),
  on('RequirePasswordOpenAppUI', t('The app asks for the password')),
  may('PreventChangeAccountPassword', t('Change their password')),
  may('PreventChangeAccountName', t('Change their display name')),
  may('PreventChangeEmailSettings', t('Change e-mail reports')),
  may('PreventViewDeviceNames', t('See the names of other devices')),
  may('HideAppImport', t('See the import from other programs')),
  may('HideAppVersion', t('See the version of the app')),
];

const timing = (): Field[] => [
  {
    path: 'RandomDelaySecs',
    label: t('Random delay of schedules'),
    help: t('Spreads the load'),
    kind: 'hours',
    max: 5,
  },
  {
    path: 'RotateStorageVaultKeysHours',
    label: t('Give up silent jobs after'),
    help: t('Hours; 0: 48'),
    kind: 'number',
  },
];

function Exclusions({ policy, set }: { policy: UserPolicy; set: (next: UserPolicy) => void }) {
  const list = policy.FileAndFolderMandatoryExclusions ?? [];
  const change = (next: typeof list) => set({ ...policy, FileAndFolderMandatoryExclusions: next });
  return (
    <Stack gap="xs">
      {list.map((entry, index) => (
        <Group
          gap="xs"
          // The list has no names of its own.
          key={`${index}-${list.length}`}
        >
          <TextInput
            w={280}
            aria-label={t('Path or pattern')}
            placeholder={t('Path or pattern')}
            value={entry.Exclude}
            onChange={(e) =>
              change(list.map((old, i) => (i === index ? { ...old, Exclude: e.currentTarget.value } : old)))
            }
          />
          <Select
            w={150}
            aria-label={t('System')}
            data={systems()}
            value={String(entry.RestrictOS)}
            onChange={(next) =>
              change(list.map((old, i) => (i === index ? { ...old, RestrictOS: Number(next) } : old)))
            }
          />
          <Switch
            label={t('Regular expression')}
            checked={entry.Regex}
            onChange={(e) =>
              change(list.map((old, i) => (i === index ? { ...old, Regex: e.currentTarget.checked } : old)))
            }
          />
          <Button
            size="compact-sm"
            variant="subtle"
            color="red"
            onClick={() => change(list.filter((_, i) => i !== index))}
          >
            {t('Remove')}
          </Button>
        </Group>
      ))}
      <Button
        variant="default"
        w="fit-content"
        onClick={() => change([...list, { Exclude: '', Regex: false, RestrictOS: 0 }])}
      >
        {t('Add exclusion')}
      </Button>
    </Stack>
  );
}

export const systems = () => [
  { value: '0', label: t('Every system') },
  { value: '1', label: 'Windows' },
  { value: '2', label: 'Windows x86' },
  { value: '3', label: 'Windows x64' },
  { value: '4', label: 'macOS' },
  { value: '5', label: 'Linux' },
];

function Editor({
  id,
  stored,
  hash,
  isNew,
}: {
  id: string;
  stored: GroupPolicy;
  hash: string;
  isNew: boolean;
}) {
  const { draft, setDraft, changed, discard, settled } = useDraft(stored);
  const client = useQueryClient();
  const navigate = useNavigate();
  const topLevel = useTopLevel();
  const tenants = useQuery({ ...tenantsQuery(), enabled: topLevel === true });
  const profiles = useProfiles(!isNew);
  const under = Object.values(profiles.data ?? {}).filter((p) => p.PolicyID === id).length;
  const p = draft.Policy;
  const setPolicy = (Policy: UserPolicy) => setDraft({ ...draft, Policy });
  const save = useMutation({
    mutationFn: (next: GroupPolicy) =>
      call('/api/v1/admin/policies/set', {
        PolicyID: id,
        Policy: next,
        CheckPolicyHash: isNew ? undefined : hash,
      }),
    onSuccess: async (_, next) => {
      settled(next);
      await client.invalidateQueries({ queryKey: ['policies'] });
      await client.invalidateQueries({ queryKey: ['policy', id] });
      if (isNew) navigate({ to: '/policies/$id', params: { id } });
    },
  });
  const part = { doc: p, change: setPolicy };
  const general: Field[] = [
    { path: 'Description', label: t('Name'), required: true },
    ...(tenants.data && Object.keys(tenants.data).length > 0
      ? [
          {
            path: 'OrganizationID',
            label: t('Tenant'),
            kind: 'select' as const,
            disabled: !isNew,
            options: [
              { value: '', label: t('None: the top level') },
              ...Object.entries(tenants.data).map(([value, o]) => ({ value, label: o.Name })),
            ],
          },
        ]
      : []),
    on('DefaultUserPolicy', t('For new accounts'), t('One policy at most is')),
  ];
  const retries = p.ModeScheduleLastJobFailDoRetry === 1 || p.ModeScheduleLastJobFailDoRetry === 3;
  const providers = p.StorageVaultProviders;
  const engines = p.ProtectedItemEngineTypes;
  const emails = p.DefaultEmailReports;
  return (
    <Stack gap="xl" maw={980}>
      <Section title={t('General')}>
        <Fields doc={draft} change={setDraft} fields={general} cols={3} />
        {!isNew && (
          <Text size="sm" c="dimmed">
            {plural(
              under,
              '{n} account is under this policy; it changes as soon as you save.',
              '{n} accounts are under this policy; they change as soon as you save.',
            )}
          </Text>
        )}
      </Section>
      <Section
        title={t('Defaults')}
        help={t('Proposed values can be changed by the account; enforced ones are set again at every save.')}
      >
        <Fields {...part} fields={modes()} />
        {retries && (
          <SimpleGrid cols={{ base: 1, sm: 2 }}>
            <NumberInput
              label={t('Tries')}
              min={1}
              value={p.ModeLastJobFailDoRetryCount ?? 1}
              onChange={(n) => setPolicy({ ...p, ModeLastJobFailDoRetryCount: Number(n) || 1 })}
            />
            <NumberInput
              label={t('Pause')}
              suffix=" min"
              min={1}
              value={p.ModeLastJobFailDoRetryTime ?? 30}
              onChange={(n) => setPolicy({ ...p, ModeLastJobFailDoRetryTime: Number(n) || 1 })}
            />
          </SimpleGrid>
        )}
        <Fields {...part} fields={timing()} />
      </Section>
      <Section title={t('Storage Vaults')} help={t('Accounts may')}>
        <Fields {...part} fields={vaultRights()} />
        <SimpleGrid cols={{ base: 1, sm: 2 }}>
          <Select
            label={t('Encryption keys of new vaults')}
            data={[
              { value: 'none', label: t('No default') },
              { value: 'server_controlled', label: t('The server decides') },
              { value: 'user_controlled', label: t('The user decides') },
            ]}
            value={p.DefaultNewStorageVault || 'none'}
            onChange={(next) => setPolicy({ ...p, DefaultNewStorageVault: next ?? 'none' })}
          />
        </SimpleGrid>
        <Fields
          {...part}
          fields={[
            on('StorageVaultProviders.ShouldRestrictProviderList', t('Only some kinds of storage')),
            ...(providers?.ShouldRestrictProviderList
              ? [
                  {
                    path: 'StorageVaultProviders.AllowedProvidersWhenRestricted',
                    label: t('Allowed kinds'),
                    kind: 'many' as const,
                    numeric: true,
                    options: VAULT_TYPES.map((x) => ({ value: String(x), label: vaultKind(x) })),
                  },
                ]
              : []),
          ]}
        />
        <Text size="sm" fw={600}>
          {t('Retention of new vaults')}
        </Text>
        <RetentionEditor
          value={p.DefaultStorageVaultRetention?.Mode ? p.DefaultStorageVaultRetention : keepAll()}
          set={(next) => setPolicy({ ...p, DefaultStorageVaultRetention: next })}
        />
        <Fields
          {...part}
          fields={[
            on(
              'EnforceStorageVaultRetention',
              t('Enforce it on every vault'),
              t('Own settings of vaults are replaced'),
            ),
          ]}
        />
      </Section>
      <Section title={t('Protected Items')} help={t('Accounts may')}>
        <Fields {...part} fields={itemRights()} />
        <Fields
          {...part}
          fields={[
            on(
              'ProtectedItemEngineTypes.ShouldRestrictEngineTypeList',
              t('Only some kinds of Protected Items'),
            ),
            ...(engines?.ShouldRestrictEngineTypeList
              ? [
                  {
                    path: 'ProtectedItemEngineTypes.AllowedEngineTypeWhenRestricted',
                    label: t('Allowed kinds'),
                    kind: 'many' as const,
                    options: engineOptions(),
                  },
                ]
              : []),
          ]}
        />
      </Section>
      <Section
        title={t('Default Protected Items')}
        help={t('Made on every new device; linked ones follow later changes of the policy.')}
      >
        <DefaultItems policy={p} set={setPolicy} />
      </Section>
      <Section title={t('Left out everywhere')} help={t('No backup of files takes these.')}>
        <Exclusions policy={p} set={setPolicy} />
      </Section>
      <Section title={t('Apps and accounts')} help={t('Accounts may')}>
        <Fields {...part} fields={appRights()} />
      </Section>
      <Section title={t('E-mail reports')}>
        <Switch
          label={t('Own default reports')}
          description={t('Else the ones of the server')}
          checked={emails?.ShouldOverrideDefaultReports ?? false}
          onChange={(e) =>
            setPolicy({
              ...p,
              DefaultEmailReports: {
                Reports: emails?.Reports ?? [],
                ShouldOverrideDefaultReports: e.currentTarget.checked,
              },
            })
          }
        />
        {emails?.ShouldOverrideDefaultReports && (
          <EmailReports
            value={emails.Reports ?? []}
            set={(Reports) => setPolicy({ ...p, DefaultEmailReports: { ...emails, Reports } })}
          />
        )}
      </Section>
      {!isNew && (
        <Section title={t('Document')}>
          <JsonDocument
            document={draft}
            schema="GroupPolicy"
            save={(next) => save.mutateAsync(next as GroupPolicy)}
          />
        </Section>
      )}
      <SaveBar
        changed={changed || isNew}
        busy={save.isPending}
        error={
          save.error ??
          (isNew && changed && !draft.Description.trim() ? new Error(t('Give the policy a name.')) : null)
        }
        discard={isNew ? () => navigate({ to: '/policies' }) : discard}
        save={() => draft.Description.trim() && save.mutate(draft)}
      />
    </Stack>
  );
}

const empty = (): GroupPolicy =>
  ({
    Description: '',
    OrganizationID: '',
    DefaultUserPolicy: false,
    // What else a policy may have is zero, and the server reads what is missing so.
    Policy: { DefaultNewStorageVault: 'none', DefaultStorageVaultRetention: keepAll() },
  }) as unknown as GroupPolicy;

export function PolicyPage() {
  const { id: wanted = '' } = useParams({ strict: false });
  const isNew = wanted === 'new';
  const id = useMemo(() => (isNew ? newId() : wanted), [isNew, wanted]);
  const fresh = useMemo(empty, []);
  const policy = useQuery({
    queryKey: ['policy', id],
    enabled: !isNew,
    queryFn: () =>
      call<{ Policy: GroupPolicy; PolicyHash: string }>('/api/v1/admin/policies/get', { PolicyID: id }),
  });
  return (
    <Page
      title={
        <>
          <AnchorLink to="/policies" inherit c="dimmed">
            {t('Policies')}
          </AnchorLink>{' '}
          / {isNew ? t('New policy') : (policy.data?.Policy.Description ?? id)}
        </>
      }
    >
      {isNew ? (
        <Editor id={id} stored={fresh} hash="" isNew />
      ) : (
        <Loaded query={policy}>
          {(data) =>
            data.Policy ? (
              <Editor key={id} id={id} stored={data.Policy} hash={data.PolicyHash} isNew={false} />
            ) : (
              <Empty>{t('There is no such policy.')}</Empty>
            )
          }
        </Loaded>
      )}
    </Page>
  );
}
