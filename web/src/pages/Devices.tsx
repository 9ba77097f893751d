import {
  ActionIcon,
  Button,
  Group,
  Menu,
  Modal,
  PasswordInput,
  Select,
  Stack,
  Tabs,
  Text,
  TextInput,
} from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, useNavigate } from '@tanstack/react-router';
import { type FormEvent, useState } from 'react';
import { call } from '../api/client';
import {
  base,
  isAdmin,
  lobbyQuery,
  useConnections,
  useProfile,
  useProfiles,
  useTopLevel,
} from '../api/queries';
import { session } from '../api/session';
import type { LiveConnection, LobbyDevice } from '../api/types';
import { DangerButton } from '../components/Danger';
import { type Column, DataTable } from '../components/DataTable';
import { Dots, Plus } from '../components/icons';
import { ButtonLink } from '../components/links';
import { Actions, Command, Failure, Loaded, Page, Time } from '../components/parts';
import { t } from '../i18n';
import { useDialogOf, useParam } from '../lib/search';
import { Updates } from './Updates';

const system = (c: Pick<LiveConnection, 'ReportedPlatform' | 'ReportedPlatformVersion'>) =>
  [c.ReportedPlatformVersion?.distribution, c.ReportedPlatformVersion?.version].filter(Boolean).join(' ') ||
  c.ReportedPlatform;

type Row = { id: string; name: string; connection: LiveConnection };

function Connected() {
  const connections = useConnections();
  const admin = isAdmin();
  const profiles = useProfiles(admin);
  const own = useProfile(session()?.username ?? '', !admin);
  const client = useQueryClient();
  const drop = useMutation({
    mutationFn: ({ what, id }: { what: string; id: string }) =>
      call(`${base()}/dispatcher/${what}`, { TargetID: id }),
    onSettled: () => client.invalidateQueries({ queryKey: ['connections'] }),
  });
  const nameOf = (c: LiveConnection) => {
    const profile = admin ? profiles.data?.[c.Username] : own.data?.Profile;
    return profile?.Devices[c.DeviceID]?.FriendlyName || c.DeviceID.slice(0, 12);
  };
  const columns: Column<Row>[] = [
    { key: 'device', label: t('Device'), width: 200, value: (r) => r.name },
    {
      key: 'account',
      label: t('Account'),
      width: 180,
      value: (r) => r.connection.Username,
      cell: (r) =>
        admin ? (
          <Link
            to="/accounts/$username"
            params={{ username: r.connection.Username }}
            search={{ tab: 'devices' }}
          >
            {r.connection.Username}
          </Link>
        ) : (
          r.connection.Username
        ),
    },
    { key: 'system', label: t('System'), width: 200, value: (r) => system(r.connection) },
    { key: 'version', label: t('Version'), width: 100, value: (r) => r.connection.ReportedVersion },
    { key: 'address', label: t('Address'), width: 150, value: (r) => r.connection.IPAddress ?? '' },
    {
      key: 'since',
      label: t('Since'),
      width: 130,
      descending: true,
      value: (r) => r.connection.ConnectionTime,
      cell: (r) => <Time unix={r.connection.ConnectionTime} />,
    },
    {
      key: 'zone',
      label: t('Time zone'),
      width: 150,
      hidden: true,
      value: (r) => r.connection.DeviceTimeZone ?? '',
    },
    { key: 'id', label: t('Device ID'), width: 260, hidden: true, value: (r) => r.connection.DeviceID },
    { key: 'connection', label: t('Connection ID'), width: 290, hidden: true, value: (r) => r.id },
    {
      key: 'actions',
      label: '',
      width: 60,
      right: true,
      value: () => '',
      cell: (r) => (
        <Menu position="bottom-end">
          <Menu.Target>
            <ActionIcon aria-label={t('More for {name}', { name: r.name })}>
              <Dots size={16} />
            </ActionIcon>
          </Menu.Target>
          <Menu.Dropdown>
            <Menu.Item onClick={() => drop.mutate({ what: 'drop-connection', id: r.id })}>
              {t('Reconnect')}
            </Menu.Item>
            {admin && (
              <>
                <Menu.Item onClick={() => drop.mutate({ what: 'refetch-profile', id: r.id })}>
                  {t('Send the profile anew')}
                </Menu.Item>
                <Menu.Item onClick={() => drop.mutate({ what: 'update-software', id: r.id })}>
                  {t('Update the software')}
                </Menu.Item>
                <Menu.Item color="red" onClick={() => drop.mutate({ what: 'kill-process', id: r.id })}>
                  {t('End the agent')}
                </Menu.Item>
              </>
            )}
          </Menu.Dropdown>
        </Menu>
      ),
    },
  ];
  return (
    <>
      <Failure error={drop.error} />
      <Loaded query={connections}>
        {(data) => (
          <DataTable
            name="devices"
            label={t('devices')}
            rows={Object.entries(data).map(([id, connection]) => ({
              id,
              connection,
              name: nameOf(connection),
            }))}
            columns={columns}
            id={(r) => r.id}
            empty={t('No device is on line. A device appears here as soon as its agent runs.')}
          />
        )}
      </Loaded>
    </>
  );
}

function Register({ device, close }: { device: LobbyDevice; close: () => void }) {
  const names = useQuery({ queryKey: ['names'], queryFn: () => call<string[]>('/api/v1/admin/list-users') });
  const navigate = useNavigate();
  const client = useQueryClient();
  const [name, setName] = useState<string | null>(null);
  const [password, setPassword] = useState('');
  const [code, setCode] = useState('');
  const register = useMutation({
    mutationFn: () =>
      call('/api/v1/admin/installation/dispatch/register-device', {
        DeviceID: device.DeviceID,
        TargetUser: name ?? '',
        TargetPassword: password,
        TargetTOTPCode: code || undefined,
      }),
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: ['lobby'] });
      navigate({ to: '/accounts/$username', params: { username: name ?? '' }, search: { tab: 'devices' } });
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    register.mutate();
  };
  return (
    <Modal opened onClose={close} title={t("Register '{name}'", { name: device.FriendlyName })}>
      <form onSubmit={submit}>
        <Stack gap="sm">
          <Failure error={register.error} />
          <Select
            label={t('Account')}
            required
            searchable
            limit={50}
            data={names.data ?? []}
            value={name}
            onChange={setName}
            data-autofocus
          />
          <PasswordInput
            label={t('Password of the account')}
            required
            autoComplete="off"
            value={password}
            onChange={(e) => setPassword(e.currentTarget.value)}
          />
          <TextInput
            label={t('One-time code')}
            description={t('Where the account asks for one')}
            inputMode="numeric"
            autoComplete="off"
            value={code}
            onChange={(e) => setCode(e.currentTarget.value)}
          />
          <Actions close={close} action={t('Register')} busy={register.isPending} disabled={!name} />
        </Stack>
      </form>
    </Modal>
  );
}

function Lobby() {
  const lobby = useQuery(lobbyQuery());
  const client = useQueryClient();
  const [wanted, setWanted] = useDialogOf('register');
  const columns: Column<LobbyDevice>[] = [
    { key: 'name', label: t('Device'), width: 200, value: (d) => d.FriendlyName },
    { key: 'system', label: t('System'), width: 200, value: system },
    { key: 'version', label: t('Version'), width: 100, value: (d) => d.ReportedVersion },
    { key: 'address', label: t('Address'), width: 150, value: (d) => d.IPAddress ?? '' },
    {
      key: 'since',
      label: t('Waiting since'),
      width: 140,
      value: (d) => d.ConnectionTime,
      cell: (d) => <Time unix={d.ConnectionTime} />,
    },
    { key: 'id', label: t('Device ID'), width: 260, hidden: true, value: (d) => d.DeviceID },
    {
      key: 'actions',
      label: '',
      width: 210,
      right: true,
      value: () => '',
      cell: (d) => (
        <Group gap={4} justify="flex-end" wrap="nowrap">
          <Button size="compact-sm" variant="light" onClick={() => setWanted(d.DeviceID)}>
            {t('Register')}
          </Button>
          <DangerButton
            label={t('Send away')}
            dialog="send-away"
            which={d.DeviceID}
            title={t('Send away')}
            text={t("'{name}' is disconnected. It may come back.", { name: d.FriendlyName })}
            run={async () => {
              await call('/api/v1/admin/installation/dispatch/drop-connection', { DeviceID: d.DeviceID });
              await client.invalidateQueries({ queryKey: ['lobby'] });
            }}
          />
        </Group>
      ),
    },
  ];
  const chosen = Object.values(lobby.data ?? {}).find((d) => d.DeviceID === wanted);
  return (
    <>
      {chosen && <Register device={chosen} close={() => setWanted('')} />}
      <Loaded query={lobby}>
        {(data) => (
          <DataTable
            name="lobby"
            label={t('waiting devices')}
            rows={Object.values(data)}
            columns={columns}
            id={(d) => d.DeviceID}
            empty={
              <Stack gap={4} align="center">
                <Text size="sm">{t('Nobody waits. A machine waits here after this command:')}</Text>
                <Command>{`curl -fsSL ${location.origin}/install.sh | sudo sh -s -- --lobby`}</Command>
              </Stack>
            }
          />
        )}
      </Loaded>
    </>
  );
}

export function Devices() {
  const [tab] = useParam('tab');
  const navigate = useNavigate();
  const topLevel = useTopLevel() === true;
  if (!isAdmin()) {
    return (
      <Page title={t('Devices on line')}>
        <Connected />
      </Page>
    );
  }
  return (
    <Page
      title={t('Devices')}
      aside={
        <ButtonLink to="/install" leftSection={<Plus size={14} />}>
          {t('Add a device')}
        </ButtonLink>
      }
    >
      <Tabs
        value={tab === 'lobby' || (tab === 'updates' && topLevel) ? tab : 'connected'}
        onChange={(next) => navigate({ to: '.', search: next === 'connected' ? {} : { tab: next ?? '' } })}
        keepMounted={false}
      >
        <Tabs.List mb="sm">
          <Tabs.Tab value="connected">{t('On line')}</Tabs.Tab>
          <Tabs.Tab value="lobby">{t('Lobby')}</Tabs.Tab>
          {topLevel && <Tabs.Tab value="updates">{t('Updates')}</Tabs.Tab>}
        </Tabs.List>
        <Tabs.Panel value="connected">
          <Connected />
        </Tabs.Panel>
        <Tabs.Panel value="lobby">
          <Lobby />
        </Tabs.Panel>
        {topLevel && (
          <Tabs.Panel value="updates">
            <Updates />
          </Tabs.Panel>
        )}
      </Tabs>
    </Page>
  );
}
