import { Alert, Button, Group, Menu, Modal, PasswordInput, Stack, Tabs, Text } from '@mantine/core';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { Link, useNavigate, useParams } from '@tanstack/react-router';
import { type FormEvent, lazy, Suspense, useState } from 'react';
import { call } from '../../api/client';
import { isAdmin, useConnections, useEditProfile, useJobs, useProfile } from '../../api/queries';
import { setSession } from '../../api/session';
import type { Profile, SessionStarted } from '../../api/types';
import { DangerDialog } from '../../components/Danger';
import { Down } from '../../components/icons';
import { JobTable } from '../../components/JobTable';
import { JsonDocument } from '../../components/JsonDocument';
import { AnchorLink, ButtonLink } from '../../components/links';
import { Actions, Command, CopyIcon, Failure, Loaded, Page, Tag } from '../../components/parts';
import { t } from '../../i18n';
import { newPassword } from '../../lib/format';
import { useDialog, useParam, useTabInSight } from '../../lib/search';
import { Devices, Items, Vaults } from './Tabs';

const AccountCharts = lazy(() => import('./Charts').then((m) => ({ default: m.AccountCharts })));
const AccountSettings = lazy(() => import('./Settings').then((m) => ({ default: m.AccountSettings })));
const Emails = lazy(() => import('./Emails').then((m) => ({ default: m.Emails })));

function ResetPassword({ profile, close }: { profile: Profile; close: () => void }) {
  const [password, setPassword] = useState('');
  const [old, setOld] = useState('');
  const recoverable = Boolean(profile.PasswordRecovery);
  const client = useQueryClient();
  const reset = useMutation({
    mutationFn: () =>
      call('/api/v1/admin/reset-user-password', {
        TargetUser: profile.Username,
        NewPassword: password,
        OldPassword: recoverable ? undefined : old,
      }),
    onSuccess: () => client.invalidateQueries({ queryKey: ['profile', profile.Username] }),
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    reset.mutate();
  };
  return (
    <Modal opened onClose={close} title={t('Reset password')}>
      {reset.isSuccess ? (
        <Stack gap="sm">
          <Text size="sm">{t('The new password. Devices that are on line have it already.')}</Text>
          <Command label={t('Copy the password')}>{password}</Command>
          <Group justify="flex-end">
            <Button onClick={close}>{t('Done')}</Button>
          </Group>
        </Stack>
      ) : (
        <form onSubmit={submit}>
          <Stack gap="sm">
            <Failure error={reset.error} />
            {!recoverable && (
              <>
                <Alert color="orange" variant="light">
                  {t(
                    'The account keeps no recovery code. Without the present password its vaults can not be carried over.',
                  )}
                </Alert>
                <PasswordInput
                  label={t('Present password')}
                  required
                  value={old}
                  onChange={(e) => setOld(e.currentTarget.value)}
                />
              </>
            )}
            <PasswordInput
              label={t('New password')}
              description={t('At least 8 characters')}
              required
              minLength={8}
              autoComplete="new-password"
              value={password}
              onChange={(e) => setPassword(e.currentTarget.value)}
              data-autofocus
            />
            <Button
              variant="subtle"
              size="compact-sm"
              w="fit-content"
              onClick={() => setPassword(newPassword())}
            >
              {t('Make one up')}
            </Button>
            <Actions close={close} action={t('Reset password')} busy={reset.isPending} />
          </Stack>
        </form>
      )}
    </Modal>
  );
}

/** What an administrator does to an account as a whole. */
function Deeds({ profile }: { profile: Profile }) {
  const { Username: username } = profile;
  const [resetting, setResetting] = useDialog('password');
  const [deleting, setDeleting] = useDialog('delete');
  const navigate = useNavigate();
  const client = useQueryClient();
  const edit = useEditProfile(username);
  const become = useMutation({
    mutationFn: () =>
      call<SessionStarted>('/api/v1/admin/account/session-start-as-user', { TargetUser: username }),
    onSuccess: (started) => {
      setSession({ kind: 'user', username, key: started.SessionKey });
      navigate({ to: '/' });
    },
  });
  return (
    <>
      <ButtonLink variant="default" to="/install" search={{ q: username }}>
        {t('Add a device')}
      </ButtonLink>
      <Menu position="bottom-end">
        <Menu.Target>
          <Button variant="default" rightSection={<Down size={14} />}>
            {t('Actions')}
          </Button>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Item
            onClick={() =>
              edit.mutate((p) => {
                p.IsSuspended = !profile.IsSuspended;
              })
            }
          >
            {profile.IsSuspended ? t('Lift the suspension') : t('Suspend')}
          </Menu.Item>
          <Menu.Item onClick={() => setResetting(true)}>{t('Reset password')}</Menu.Item>
          <Menu.Item onClick={() => become.mutate()}>{t('See it as the user does')}</Menu.Item>
          <Menu.Item onClick={() => navigate({ to: '/audit', search: { show: 'account', which: username } })}>
            {t('Changes of this account')}
          </Menu.Item>
          <Menu.Divider />
          <Menu.Item color="red" onClick={() => setDeleting(true)}>
            {t('Delete account')}
          </Menu.Item>
        </Menu.Dropdown>
      </Menu>
      <Failure error={edit.error ?? become.error} />
      {resetting && <ResetPassword profile={profile} close={() => setResetting(false)} />}
      <DangerDialog
        opened={deleting}
        close={() => setDeleting(false)}
        title={t('Delete account')}
        text={t(
          'The account, its job history and the keys of its vaults are deleted: what is stored can never be read again. This can not be undone.',
        )}
        word={username}
        action={t('Delete account')}
        run={async () => {
          await call('/api/v1/admin/delete-user', { TargetUser: username });
          client.removeQueries({ queryKey: ['profile', username] });
          await client.invalidateQueries({ queryKey: ['profiles'] });
        }}
        leave={() => navigate({ to: '/accounts' })}
      />
    </>
  );
}

/** What is still missing until backups run by themselves. */
function NextSteps({ profile }: { profile: Profile }) {
  const { Username: username } = profile;
  const has = (map: object) => Object.keys(map ?? {}).length > 0;
  const scheduled = Object.values(profile.BackupRules ?? {}).some((r) => (r.Schedules ?? []).length > 0);
  if (has(profile.Devices) && has(profile.Destinations) && has(profile.Sources) && scheduled) return null;
  const step = (done: boolean, text: string, to: React.ReactNode) => (
    <li data-done={done}>
      <span aria-hidden>{done ? '✓' : '○'}</span> {text} {!done && to}
    </li>
  );
  const params = { username };
  const [first] = Object.keys(profile.Sources ?? {});
  return (
    <ol className="steps" aria-label={t('Next steps')}>
      {step(
        has(profile.Devices),
        t('Register a device'),
        isAdmin() ? (
          <Link to="/install" search={{ q: username }}>
            {t('How')}
          </Link>
        ) : (
          <Link to="/" search={{ tab: 'devices' }}>
            {t('How')}
          </Link>
        ),
      )}
      {step(
        has(profile.Destinations),
        t('Say where backups go'),
        <Link to="/accounts/$username/vaults/$vault/edit" params={{ ...params, vault: 'new' }}>
          {t('Add Storage Vault')}
        </Link>,
      )}
      {step(
        has(profile.Sources),
        t('Say what is backed up'),
        has(profile.Devices) && (
          <Link to="/accounts/$username/items/$item" params={{ ...params, item: 'new' }}>
            {t('Add Protected Item')}
          </Link>
        ),
      )}
      {step(
        scheduled,
        t('Give it a schedule'),
        first && (
          <Link
            to="/accounts/$username/items/$item"
            params={{ ...params, item: first }}
            search={{ step: '2' }}
          >
            {t('Add schedule')}
          </Link>
        ),
      )}
    </ol>
  );
}

export function AccountBody({ username }: { username: string }) {
  const profile = useProfile(username);
  const connections = useConnections();
  const jobs = useJobs(username);
  const [wanted] = useParam('tab');
  const navigate = useNavigate();
  const tabs: [string, string][] = [
    ['items', t('Protected Items')],
    ['vaults', t('Storage Vaults')],
    ['devices', t('Devices')],
    ['jobs', t('Jobs')],
    ['emails', t('E-mail reports')],
    ['settings', t('Settings')],
    ['profile', t('Document')],
  ];
  const tab = tabs.some(([key]) => key === wanted) ? wanted : 'items';
  // The tabs come with the profile.
  useTabInSight(profile.data ? tab : '');
  const edit = useEditProfile(username);
  return (
    <Loaded query={profile}>
      {({ Profile: p }) => (
        <>
          <NextSteps profile={p} />
          <Tabs
            value={tab}
            onChange={(next) => {
              if (next) navigate({ to: '.', search: { tab: next } });
            }}
            keepMounted={false}
          >
            <Tabs.List mb="sm" className="tabs">
              {tabs.map(([key, label]) => (
                <Tabs.Tab key={key} value={key}>
                  {label}
                </Tabs.Tab>
              ))}
            </Tabs.List>
            <Tabs.Panel value="items">
              <Items profile={p} connections={connections.data ?? {}} />
            </Tabs.Panel>
            <Tabs.Panel value="vaults">
              <Vaults profile={p} connections={connections.data ?? {}} />
            </Tabs.Panel>
            <Tabs.Panel value="devices">
              <Devices profile={p} connections={connections.data ?? {}} />
            </Tabs.Panel>
            <Tabs.Panel value="jobs">
              <Loaded query={jobs}>
                {(list) => (
                  <>
                    <Suspense>
                      <AccountCharts username={username} jobs={list} />
                    </Suspense>
                    <JobTable jobs={list} name="account-jobs" />
                  </>
                )}
              </Loaded>
            </Tabs.Panel>
            <Tabs.Panel value="emails">
              <Suspense>
                <Emails profile={p} />
              </Suspense>
            </Tabs.Panel>
            <Tabs.Panel value="settings">
              <Suspense>
                <AccountSettings profile={p} />
              </Suspense>
            </Tabs.Panel>
            <Tabs.Panel value="profile">
              <JsonDocument
                document={p}
                schema="UserProfileConfig"
                hidden={['PasswordHash', 'PasswordRecovery', 'TOTPKey']}
                save={
                  isAdmin()
                    ? (next) =>
                        edit.mutateAsync((profile) => {
                          for (const key of Object.keys(profile))
                            delete (profile as Record<string, unknown>)[key];
                          Object.assign(profile, next);
                        })
                    : undefined
                }
              />
            </Tabs.Panel>
          </Tabs>
        </>
      )}
    </Loaded>
  );
}

export function Account() {
  const { username = '' } = useParams({ strict: false });
  const profile = useProfile(username).data?.Profile;
  return (
    <Page
      title={
        <Group gap="sm">
          <span>
            {isAdmin() && (
              <>
                <AnchorLink to="/accounts" inherit c="dimmed">
                  {t('Accounts')}
                </AnchorLink>{' '}
                /{' '}
              </>
            )}
            {username}
          </span>
          <CopyIcon value={username} label={t('Copy the name')} />
          {profile?.AccountName && (
            <Text span c="dimmed" size="sm">
              {profile.AccountName}
            </Text>
          )}
          {profile?.IsSuspended && <Tag tone="bad">{t('Suspended')}</Tag>}
        </Group>
      }
      aside={isAdmin() && profile && <Deeds profile={profile} />}
    >
      <AccountBody username={username} />
    </Page>
  );
}
