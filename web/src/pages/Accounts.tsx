import {
  Button,
  Group,
  Modal,
  PasswordInput,
  Select,
  SimpleGrid,
  Stack,
  Switch,
  Text,
  TextInput,
} from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, useNavigate, useRouter } from '@tanstack/react-router';
import { type FormEvent, useMemo, useState } from 'react';
import { call } from '../api/client';
import {
  groupsQuery,
  policiesQuery,
  tenantsQuery,
  useConnections,
  useProfiles,
  useTopLevel,
} from '../api/queries';
import type { Profile, ProfileAndHash } from '../api/types';
import { AccountName } from '../components/AccountName';
import { type Column, DataTable } from '../components/DataTable';
import { Plus } from '../components/icons';
import { Actions, Failure, Loaded, Page, StatusBadge, Tag, Time } from '../components/parts';
import { t } from '../i18n';
import { bytes, newPassword } from '../lib/format';
import { HEALTH_TONE, HEALTHS, healthName, healthOf, lastJob, stored } from '../lib/health';
import { useParam } from '../lib/search';

function AddAccount({ close }: { close: () => void }) {
  const client = useQueryClient();
  const navigate = useNavigate();
  const policies = useQuery(policiesQuery());
  const groups = useQuery(groupsQuery());
  const topLevel = useTopLevel();
  const tenants = useQuery({ ...tenantsQuery(), enabled: topLevel === true });
  const [name, setName] = useState('');
  const [password, setPassword] = useState('');
  const [display, setDisplay] = useState('');
  const [email, setEmail] = useState('');
  const [tenant, setTenant] = useState('');
  const [chosenPolicy, setPolicy] = useState<string | null>(null);
  const [group, setGroup] = useState('');
  const [mustChange, setMustChange] = useState(false);
  const [recovery, setRecovery] = useState(true);
  const own = Object.entries(policies.data ?? {}).filter(([, p]) => (p.OrganizationID ?? '') === tenant);
  // The only policy, or the one that says so, is proposed.
  const proposed =
    own.find(([, p]) => p.DefaultUserPolicy)?.[0] ?? (own.length === 1 ? (own[0]?.[0] ?? '') : '');
  const policy = chosenPolicy ?? proposed;
  const add = useMutation({
    mutationFn: async () => {
      await call('/api/v1/admin/add-user', {
        TargetUser: name,
        TargetPassword: password,
        StoreRecoveryCode: recovery ? 1 : undefined,
        RequirePasswordChange: mustChange ? 1 : undefined,
        TargetOrganization: tenant || undefined,
      });
      if (!display && !email && !policy && !group) return;
      const at = await call<ProfileAndHash>('/api/v1/admin/get-user-profile-and-hash', { TargetUser: name });
      const profile = {
        ...at.Profile,
        AccountName: display,
        PolicyID: policy || at.Profile.PolicyID,
        GroupID: group,
        ...(email ? { Emails: [email], SendEmailReports: true } : {}),
      };
      await call('/api/v1/admin/set-user-profile-hash', {
        TargetUser: name,
        ProfileData: profile,
        RequireHash: at.ProfileHash,
      });
    },
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: ['profiles'] });
      navigate({ to: '/accounts/$username', params: { username: name } });
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    add.mutate();
  };
  const none = (label: string) => ({ value: '', label });
  return (
    <Modal opened onClose={close} title={t('Add account')} size="lg">
      <form onSubmit={submit}>
        <Stack gap="sm">
          <Failure error={add.error} />
          <SimpleGrid cols={{ base: 1, sm: 2 }} verticalSpacing="sm">
            <AccountName value={name} set={setName} />
            <TextInput
              label={t('Display name')}
              description={t('Whatever people read')}
              value={display}
              onChange={(e) => setDisplay(e.currentTarget.value)}
            />
            <div>
              <PasswordInput
                label={t('Password')}
                description={t('At least 8 characters')}
                required
                minLength={8}
                autoComplete="new-password"
                value={password}
                onChange={(e) => setPassword(e.currentTarget.value)}
              />
              <Button variant="subtle" size="compact-xs" mt={4} onClick={() => setPassword(newPassword())}>
                {t('Make one up')}
              </Button>
            </div>
            <TextInput
              label={t('E-mail address')}
              description={t('Gets reports of the backups')}
              type="email"
              value={email}
              onChange={(e) => setEmail(e.currentTarget.value)}
            />
            {tenants.data && Object.keys(tenants.data).length > 0 && (
              <Select
                label={t('Tenant')}
                value={tenant}
                onChange={(next) => {
                  setTenant(next ?? '');
                  setPolicy(null);
                }}
                data={[
                  none(t('None: the top level')),
                  ...Object.entries(tenants.data).map(([value, o]) => ({ value, label: o.Name })),
                ]}
              />
            )}
            <Select
              label={t('Policy')}
              value={policy}
              onChange={setPolicy}
              data={[
                none(t('No policy')),
                ...own.map(([value, p]) => ({ value, label: p.Description || value })),
              ]}
            />
            <Select
              label={t('Group')}
              value={group}
              onChange={(next) => setGroup(next ?? '')}
              data={[
                none(t('No group')),
                ...Object.entries(groups.data ?? {})
                  .filter(([, g]) => (g.OrganizationID ?? '') === tenant)
                  .map(([value, g]) => ({ value, label: g.Name })),
              ]}
            />
          </SimpleGrid>
          <Switch
            label={t('Must choose a new password at the first sign-in')}
            checked={mustChange}
            onChange={(e) => setMustChange(e.currentTarget.checked)}
          />
          <Switch
            label={t('Administrators can reset the password')}
            description={t(
              'A recovery code is kept; without it a forgotten password makes the backups unreadable',
            )}
            checked={recovery}
            onChange={(e) => setRecovery(e.currentTarget.checked)}
          />
          <Actions close={close} action={t('Add')} busy={add.isPending} />
        </Stack>
      </form>
    </Modal>
  );
}

export function Accounts() {
  const profiles = useProfiles();
  const connections = useConnections();
  const groups = useQuery(groupsQuery());
  const policies = useQuery(policiesQuery());
  const topLevel = useTopLevel();
  const tenants = useQuery({ ...tenantsQuery(), enabled: topLevel === true });
  const [show, setShow] = useParam('show');
  const [where, setWhere] = useParam('where');
  const [dialog, setDialog] = useParam('dialog', { keep: true });
  const { history } = useRouter();
  const all = useMemo(() => Object.values(profiles.data ?? {}), [profiles.data]);
  const rows = useMemo(
    () =>
      all.filter(
        (p) =>
          (!show || healthOf(p) === show) &&
          (!where || p.GroupID === where || p.PolicyID === where || p.OrganizationID === where),
      ),
    [all, show, where],
  );
  const online = useMemo(() => {
    const names = new Map<string, number>();
    for (const c of Object.values(connections.data ?? {}))
      names.set(c.Username, (names.get(c.Username) ?? 0) + 1);
    return names;
  }, [connections.data]);
  const columns = useMemo<Column<Profile>[]>(
    () => [
      {
        key: 'name',
        label: t('Account'),
        width: 180,
        value: (p) => p.Username,
        cell: (p) => (
          <Link to="/accounts/$username" params={{ username: p.Username }}>
            {p.Username}
          </Link>
        ),
      },
      { key: 'display', label: t('Display name'), width: 140, value: (p) => p.AccountName },
      {
        key: 'state',
        label: t('Backups'),
        width: 150,
        value: (p) => healthName(healthOf(p)),
        cell: (p) => <Tag tone={HEALTH_TONE[healthOf(p)]}>{healthName(healthOf(p))}</Tag>,
      },
      {
        key: 'last',
        label: t('Last backup'),
        width: 200,
        descending: true,
        value: (p) => lastJob(p)?.StartTime ?? 0,
        cell: (p) => {
          const last = lastJob(p);
          if (!last)
            return (
              <Text span c="dimmed" inherit>
                {t('never')}
              </Text>
            );
          return (
            <Group gap="xs" wrap="nowrap">
              <StatusBadge status={last.Status} />
              <Time unix={last.StartTime} />
            </Group>
          );
        },
      },
      {
        key: 'devices',
        label: t('Devices'),
        width: 80,
        right: true,
        descending: true,
        value: (p) => Object.keys(p.Devices).length,
        cell: (p) => {
          const live = online.get(p.Username) ?? 0;
          return live > 0 ? (
            <>
              <span className="dot" title={t('On line ({n})', { n: live })} /> {Object.keys(p.Devices).length}
            </>
          ) : (
            Object.keys(p.Devices).length
          );
        },
      },
      {
        key: 'items',
        label: t('Items'),
        width: 65,
        right: true,
        descending: true,
        value: (p) => Object.keys(p.Sources).length,
      },
      {
        key: 'stored',
        label: t('Stored'),
        width: 90,
        right: true,
        descending: true,
        value: stored,
        cell: (p) => bytes(stored(p)),
      },
      {
        key: 'policy',
        label: t('Policy'),
        width: 120,
        value: (p) => policies.data?.[p.PolicyID]?.Description ?? '',
      },
      {
        key: 'group',
        label: t('Group'),
        width: 130,
        hidden: true,
        value: (p) => groups.data?.[p.GroupID]?.Name ?? '',
      },
      {
        key: 'tenant',
        label: t('Tenant'),
        width: 130,
        hidden: true,
        value: (p) => tenants.data?.[p.OrganizationID ?? '']?.Name ?? '',
      },
      {
        key: 'emails',
        label: t('E-mail'),
        width: 200,
        hidden: true,
        value: (p) => (p.Emails ?? []).join(', '),
      },
      {
        key: 'created',
        label: t('Created'),
        width: 130,
        hidden: true,
        descending: true,
        value: (p) => p.CreateTime,
        cell: (p) => <Time unix={p.CreateTime} />,
      },
    ],
    [online, policies.data, groups.data, tenants.data],
  );
  const names = [
    ...Object.entries(groups.data ?? {}).map(([value, g]) => ({ value, label: g.Name })),
    ...Object.entries(policies.data ?? {}).map(([value, p]) => ({ value, label: p.Description || value })),
    ...Object.entries(tenants.data ?? {}).map(([value, o]) => ({ value, label: o.Name })),
  ];
  const add = () => setDialog('new');
  return (
    <Page
      title={t('Accounts')}
      aside={
        <Button onClick={add} leftSection={<Plus size={14} />}>
          {t('Add account')}
        </Button>
      }
    >
      {dialog === 'new' && <AddAccount close={() => setDialog(null)} />}
      <Loaded query={profiles}>
        {() => (
          <DataTable
            name="accounts"
            label={t('accounts')}
            rows={rows}
            columns={columns}
            id={(p) => p.Username}
            open={(p) => history.push(`/accounts/${encodeURIComponent(p.Username)}`)}
            aside={
              <>
                <Select
                  size="xs"
                  w={160}
                  aria-label={t('Backups')}
                  data={[
                    { value: '', label: t('All backups') },
                    ...HEALTHS.map((value) => ({ value, label: healthName(value) })),
                  ]}
                  value={show}
                  onChange={setShow}
                />
                {names.length > 0 && (
                  <Select
                    size="xs"
                    w={190}
                    aria-label={t('Group, policy or tenant')}
                    searchable
                    data={[
                      { value: '', label: t('All groups') },
                      {
                        group: t('Groups'),
                        items: names.filter((n) => groups.data && n.value in groups.data),
                      },
                      {
                        group: t('Policies'),
                        items: names.filter((n) => policies.data && n.value in policies.data),
                      },
                      {
                        group: t('Tenants'),
                        items: names.filter((n) => tenants.data && n.value in tenants.data),
                      },
                    ]}
                    value={where}
                    onChange={setWhere}
                  />
                )}
              </>
            }
            empty={
              all.length > 0 ? (
                t('No account is like that.')
              ) : (
                <Stack gap="sm" align="center">
                  {t(
                    'No accounts yet. An account stands for a customer or a person with any number of devices.',
                  )}
                  <Button onClick={add}>{t('Add the first account')}</Button>
                </Stack>
              )
            }
          />
        )}
      </Loaded>
    </Page>
  );
}
