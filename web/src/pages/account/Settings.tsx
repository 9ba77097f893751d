// An account's settings: names, membership, log-in, limits.
import { Alert, Group, Stack, Text } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { call } from '../../api/client';
import {
  groupsQuery,
  isAdmin,
  policiesQuery,
  templatesQuery,
  tenantsQuery,
  useEditProfile,
} from '../../api/queries';
import type { Profile } from '../../api/types';
import { DangerButton } from '../../components/Danger';
import { type Field, Fields, read, SaveBar, useDraft, written } from '../../components/Fields';
import { Failure, Section } from '../../components/parts';
import { t } from '../../i18n';
import { languageCodes, timeZones } from '../../lib/places';

const none = (label: string) => ({ value: '', label });

function identity(admin: boolean, locked: boolean, zone: string): Field[] {
  return [
    { path: 'AccountName', label: t('Display name'), disabled: !admin && locked },
    { path: 'LocalTimezone', label: t('Time zone'), kind: 'select', options: timeZones(zone) },
    { path: 'LanguageCode', label: t('Language of e-mails'), kind: 'select', options: languageCodes() },
  ];
}

function limits(): Field[] {
  return [
    { path: 'MaximumDevices', label: t('Most devices'), help: t('0: no limit'), kind: 'number' },
    { path: 'AllProtectedItemsQuotaEnabled', label: t('Limit the protected data'), kind: 'switch' },
    { path: 'AllProtectedItemsQuotaBytes', label: t('Protected data at most'), kind: 'gib' },
    {
      path: 'QuotaOffice365ProtectedAccounts',
      label: t('Most Microsoft 365 accounts'),
      help: t('0: no limit'),
      kind: 'number',
    },
    { path: 'QuotaHyperVGuests', label: t('Most Hyper-V guests'), help: t('0: no limit'), kind: 'number' },
    { path: 'QuotaVMwareGuests', label: t('Most VMware guests'), help: t('0: no limit'), kind: 'number' },
  ];
}

function logIn(): Field[] {
  return [
    { path: 'AllowPasswordLogin', label: t('The password alone is enough'), kind: 'switch' },
    {
      path: 'AllowPasswordAndTOTPLogin',
      label: t('Password and one-time code'),
      help: t('The person sets the codes up under My account'),
      kind: 'switch',
    },
    { path: 'RequirePasswordChange', label: t('Must choose a new password next time'), kind: 'switch' },
    { path: 'LinuxHomedirSandbox', label: t('Linux devices back up home folders only'), kind: 'switch' },
  ];
}

export function AccountSettings({ profile }: { profile: Profile }) {
  const admin = isAdmin();
  const client = useQueryClient();
  const edit = useEditProfile(profile.Username);
  const { draft, setDraft, changed, discard, settled } = useDraft(profile);
  const groups = useQuery({ ...groupsQuery(), enabled: admin });
  const policies = useQuery({ ...policiesQuery(), enabled: admin });
  const tenants = useQuery({ ...tenantsQuery(), enabled: admin, retry: false });
  const templates = useQuery({ ...templatesQuery(), enabled: admin, retry: false });
  const disableTotp = useMutation({
    mutationFn: () => call('/api/v1/admin/disable-user-totp', { TargetUser: profile.Username }),
    onSuccess: () => client.invalidateQueries({ queryKey: ['profile', profile.Username] }),
  });
  const own = profile.OrganizationID ?? '';
  const named = <T,>(map: Record<string, T> | undefined, name: (value: T) => string) =>
    Object.entries(map ?? {}).map(([value, entry]) => ({ value, label: name(entry) || value }));
  const membership: Field[] = [
    {
      path: 'GroupID',
      label: t('Group'),
      kind: 'select',
      options: [none(t('No group')), ...named(groups.data, (g) => g.Name)],
    },
    {
      path: 'PolicyID',
      label: t('Policy'),
      kind: 'select',
      options: [
        none(t('No policy')),
        ...Object.entries(policies.data ?? {})
          .filter(([, p]) => (p.OrganizationID ?? '') === own)
          .map(([value, p]) => ({ value, label: p.Description || value })),
      ],
    },
    {
      path: 'AutoStorageTemplateGUID',
      label: t('Storage for new devices'),
      help: t('A vault is made by itself when a device registers'),
      kind: 'select',
      options: [
        none(t('None')),
        ...(templates.data ?? []).map((x) => ({ value: x.ID, label: x.Description || x.ID })),
      ],
    },
  ];
  const saved = [
    ...identity(admin, false, ''),
    ...membership,
    ...limits(),
    ...logIn(),
    { path: 'IsSuspended', label: '' },
  ].map((f) => f.path);
  const save = () =>
    edit.mutate(
      (p) => {
        // Only what this page shows is written: devices may have changed the rest meanwhile.
        for (const path of saved) Object.assign(p, written(p, path, read(draft, path)));
      },
      { onSuccess: (answer) => settled(answer.Profile) },
    );
  const tenant = tenants.data?.[own]?.Name;
  const parts = { doc: draft, change: setDraft };
  return (
    <Stack gap="lg" maw={900}>
      {profile.IsSuspended && (
        <Alert color="orange" variant="light">
          {t('The account is suspended: no log-in, no backup, no restore.')}
        </Alert>
      )}
      <Section title={t('Account')}>
        <Fields
          {...parts}
          fields={identity(admin, profile.Policy?.PreventChangeAccountName ?? false, draft.LocalTimezone)}
          cols={3}
        />
      </Section>
      {admin && (
        <>
          <Section title={t('Membership')} help={tenant ? t('Tenant: {name}', { name: tenant }) : undefined}>
            <Fields {...parts} fields={membership} cols={3} />
            {draft.PolicyID !== '' && (
              <Text size="sm">
                <Link to="/policies/$id" params={{ id: draft.PolicyID }}>
                  {t('Open the policy')}
                </Link>
              </Text>
            )}
          </Section>
          <Section title={t('Limits')}>
            <Fields {...parts} fields={limits()} cols={3} />
          </Section>
          <Section title={t('Signing in')}>
            <Fields {...parts} fields={logIn()} />
            {profile.TOTPKey !== '' && (
              <Group>
                <DangerButton
                  label={t('Take one-time codes away')}
                  dialog="codes"
                  title={t('Take one-time codes away')}
                  text={t('For somebody who has lost the authenticator: the password alone is enough again.')}
                  button={{ variant: 'light' }}
                  run={() => disableTotp.mutateAsync()}
                />
              </Group>
            )}
            <Failure error={disableTotp.error} />
          </Section>
        </>
      )}
      <SaveBar changed={changed} busy={edit.isPending} error={edit.error} save={save} discard={discard} />
    </Stack>
  );
}
