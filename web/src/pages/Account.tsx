import { Anchor, Badge, Button, Code, Group, Modal, Select, Stack, Table, Tabs, Text } from '@mantine/core';
import { useDisclosure } from '@mantine/hooks';
import { useMutation } from '@tanstack/react-query';
import { Link, useNavigate, useParams, useSearch } from '@tanstack/react-router';
import { useState } from 'react';
import { isAdmin, runBackup, runRule, useConnections, useJobs, useProfile } from '../api/queries';
import type { LiveConnection, Profile } from '../api/types';
import { JobTable } from '../components/JobTable';
import { Empty, Failure, Loaded, Page, StatusBadge, Time } from '../components/parts';
import { bytes } from '../lib/format';

type Connections = Record<string, LiveConnection>;

const ENGINES: Record<string, string> = {
  'engine1/file': 'Files and folders',
  'engine1/stdout': 'Program output',
};

function connectionOf(connections: Connections, username: string, device: string): string | undefined {
  return Object.entries(connections).find(([, c]) => c.Username === username && c.DeviceID === device)?.[0];
}

/** Any device of the account that is on line: each of them can look into the account's vaults. */
export function anyConnection(connections: Connections, username: string): string | undefined {
  return Object.entries(connections).find(([, c]) => c.Username === username)?.[0];
}

function BackUp({
  profile,
  item,
  connections,
}: {
  profile: Profile;
  item: string;
  connections: Connections;
}) {
  const [opened, { open, close }] = useDisclosure(false);
  const vaults = Object.entries(profile.Destinations);
  const rules = Object.entries(profile.BackupRules).filter(([, r]) => r.Source === item);
  // A rule brings its own options; a vault alone takes the usual ones.
  const ways = [
    {
      group: 'By a backup rule',
      items: rules.map(([id, r]) => ({ value: `rule:${id}`, label: r.Description || id })),
    },
    {
      group: 'To a Storage Vault',
      items: vaults.map(([id, v]) => ({ value: `vault:${id}`, label: v.Description || id })),
    },
  ].filter((group) => group.items.length > 0);
  const [way, setWay] = useState<string | null>(ways[0]?.items[0]?.value ?? null);
  const navigate = useNavigate();
  const device = profile.Sources[item]?.OwnerDevice ?? '';
  const target = connectionOf(connections, profile.Username, device);
  const start = useMutation({
    mutationFn: () => {
      const TargetID = target ?? '';
      const [kind, id = ''] = (way ?? '').split(/:(.*)/s);
      return kind === 'rule'
        ? runRule({ TargetID, BackupRule: id })
        : runBackup({ TargetID, Source: item, Destination: id });
    },
    onSuccess: (answer) =>
      answer.JobID ? navigate({ to: '/jobs/$id', params: { id: answer.JobID } }) : navigate({ to: '/jobs' }),
  });
  return (
    <>
      <Button size="compact-sm" variant="light" onClick={open} disabled={!target || vaults.length === 0}>
        Back up
      </Button>
      <Modal opened={opened} onClose={close} title={`Back up '${profile.Sources[item]?.Description}'`}>
        <Stack gap="sm">
          <Failure error={start.error} />
          <Select label="How" data={ways} value={way} onChange={setWay} allowDeselect={false} />
          <Group justify="flex-end">
            <Button variant="default" onClick={close}>
              Cancel
            </Button>
            <Button onClick={() => start.mutate()} loading={start.isPending} disabled={!way}>
              Start backup
            </Button>
          </Group>
        </Stack>
      </Modal>
    </>
  );
}

function Items({ profile, connections }: { profile: Profile; connections: Connections }) {
  const items = Object.entries(profile.Sources);
  if (items.length === 0) return <Empty>No Protected Items yet. They say what a device backs up.</Empty>;
  return (
    <Table.ScrollContainer minWidth={640}>
      <Table verticalSpacing={6}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Protected Item</Table.Th>
            <Table.Th>Kind</Table.Th>
            <Table.Th>Device</Table.Th>
            <Table.Th>Last backup</Table.Th>
            <Table.Th />
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {items.map(([id, item]) => {
            const last = item.Statistics?.LastBackupJob;
            const paths = Object.entries(item.EngineProps).filter(([key]) => key.startsWith('INCLUDE'));
            return (
              <Table.Tr key={id}>
                <Table.Td>
                  {item.Description || id}
                  <Text size="xs" c="dimmed">
                    {paths.map(([, path]) => path).join(', ')}
                  </Text>
                </Table.Td>
                <Table.Td>{ENGINES[item.Engine] ?? item.Engine}</Table.Td>
                <Table.Td>{profile.Devices[item.OwnerDevice]?.FriendlyName ?? '–'}</Table.Td>
                <Table.Td>
                  {last?.StartTime ? (
                    <Group gap="xs" wrap="nowrap">
                      <StatusBadge status={last.Status} />
                      <Time unix={last.StartTime} />
                    </Group>
                  ) : (
                    'never'
                  )}
                </Table.Td>
                <Table.Td ta="right">
                  <BackUp profile={profile} item={id} connections={connections} />
                </Table.Td>
              </Table.Tr>
            );
          })}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}

function Vaults({ profile }: { profile: Profile }) {
  const vaults = Object.entries(profile.Destinations);
  if (vaults.length === 0) return <Empty>No Storage Vaults yet. They say where backups go.</Empty>;
  return (
    <Table verticalSpacing={6}>
      <Table.Thead>
        <Table.Tr>
          <Table.Th>Storage Vault</Table.Th>
          <Table.Th>Where</Table.Th>
          <Table.Th ta="right">Stored</Table.Th>
          <Table.Th />
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {vaults.map(([id, vault]) => (
          <Table.Tr key={id}>
            <Table.Td>{vault.Description || id}</Table.Td>
            <Table.Td>{vault.DestinationType === 1003 ? vault.CometServer : vault.LocalcopyPath}</Table.Td>
            <Table.Td ta="right">{bytes(vault.Statistics?.ClientProvidedSize.Size ?? 0)}</Table.Td>
            <Table.Td ta="right">
              <Link to="/accounts/$username/vaults/$vault" params={{ username: profile.Username, vault: id }}>
                Browse and restore
              </Link>
            </Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}

function Devices({ profile, connections }: { profile: Profile; connections: Connections }) {
  const devices = Object.entries(profile.Devices);
  if (devices.length === 0) {
    return (
      <Empty>
        No devices yet. On the machine run{' '}
        <Code>
          encke agent register --server {location.origin} --user {profile.Username}
        </Code>
      </Empty>
    );
  }
  return (
    <Table verticalSpacing={6}>
      <Table.Thead>
        <Table.Tr>
          <Table.Th>Device</Table.Th>
          <Table.Th>System</Table.Th>
          <Table.Th>Registered</Table.Th>
          <Table.Th>State</Table.Th>
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {devices.map(([id, device]) => {
          const live = connectionOf(connections, profile.Username, id);
          return (
            <Table.Tr key={id}>
              <Table.Td>{device.FriendlyName}</Table.Td>
              <Table.Td>
                {device.PlatformVersion?.distribution} {device.PlatformVersion?.version}
              </Table.Td>
              <Table.Td>
                <Time unix={device.RegistrationTime ?? 0} />
              </Table.Td>
              <Table.Td>
                <Badge variant="light" color={live ? 'teal' : 'gray'} tt="none">
                  {live ? 'On line' : 'Off line'}
                </Badge>
              </Table.Td>
            </Table.Tr>
          );
        })}
      </Table.Tbody>
    </Table>
  );
}

const TABS = ['items', 'vaults', 'devices', 'jobs', 'profile'];

export function AccountBody({ username }: { username: string }) {
  const profile = useProfile(username);
  const connections = useConnections();
  const jobs = useJobs(username);
  const navigate = useNavigate();
  const search: { tab?: string } = useSearch({ strict: false });
  const tab = TABS.includes(search.tab ?? '') ? search.tab : 'items';
  const setTab = (next: string | null) =>
    navigate({ to: '/accounts/$username', params: { username }, search: { tab: next ?? 'items' } });
  return (
    <Loaded query={profile}>
      {({ Profile: p }) => (
        <Tabs value={tab} onChange={setTab} keepMounted={false}>
          <Tabs.List mb="sm">
            <Tabs.Tab value="items">Protected Items</Tabs.Tab>
            <Tabs.Tab value="vaults">Storage Vaults</Tabs.Tab>
            <Tabs.Tab value="devices">Devices</Tabs.Tab>
            <Tabs.Tab value="jobs">Jobs</Tabs.Tab>
            <Tabs.Tab value="profile">Profile</Tabs.Tab>
          </Tabs.List>
          <Tabs.Panel value="items">
            <Items profile={p} connections={connections.data ?? {}} />
          </Tabs.Panel>
          <Tabs.Panel value="vaults">
            <Vaults profile={p} />
          </Tabs.Panel>
          <Tabs.Panel value="devices">
            <Devices profile={p} connections={connections.data ?? {}} />
          </Tabs.Panel>
          <Tabs.Panel value="jobs">
            <Loaded query={jobs}>{(list) => <JobTable jobs={list} />}</Loaded>
          </Tabs.Panel>
          <Tabs.Panel value="profile">
            <Stack gap="xs">
              <Text size="sm" c="dimmed">
                The account's document, as the API answers it. Created <Time unix={p.CreateTime} />, time zone{' '}
                {p.LocalTimezone}.
              </Text>
              <Code block mah={520} style={{ overflow: 'auto' }}>
                {JSON.stringify(
                  { ...p, PasswordHash: '…', PasswordRecovery: p.PasswordRecovery ? '…' : '' },
                  null,
                  2,
                )}
              </Code>
            </Stack>
          </Tabs.Panel>
        </Tabs>
      )}
    </Loaded>
  );
}

export function Account() {
  const { username } = useParams({ from: '/shell/accounts/$username' });
  return (
    <Page
      title={
        <>
          {isAdmin() && (
            <>
              <Anchor component={Link} to="/accounts" inherit c="dimmed">
                Accounts
              </Anchor>{' '}
              /{' '}
            </>
          )}
          {username}
        </>
      }
    >
      <AccountBody username={username} />
    </Page>
  );
}
