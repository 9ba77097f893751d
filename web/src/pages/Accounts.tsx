import { Badge, Button, Group, Modal, PasswordInput, Stack, Table, TextInput } from '@mantine/core';
import { useDisclosure } from '@mantine/hooks';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { useVirtualizer } from '@tanstack/react-virtual';
import { type FormEvent, useRef, useState } from 'react';
import { call } from '../api/client';
import { useProfiles } from '../api/queries';
import type { Profile } from '../api/types';
import { Empty, Failure, Loaded, Page, StatusBadge, Time } from '../components/parts';
import { bytes, matches } from '../lib/format';

type SortKey = 'name' | 'devices' | 'stored' | 'last';

const stored = (p: Profile) =>
  Object.values(p.Destinations).reduce((sum, d) => sum + (d.Statistics?.ClientProvidedSize.Size ?? 0), 0);
const lastJob = (p: Profile) =>
  Object.values(p.Sources)
    .map((s) => s.Statistics?.LastBackupJob)
    .filter((j) => j !== undefined && j.StartTime > 0)
    .sort((a, b) => (b?.StartTime ?? 0) - (a?.StartTime ?? 0))[0];

const SORTS: Record<SortKey, (a: Profile, b: Profile) => number> = {
  name: (a, b) => a.Username.localeCompare(b.Username),
  devices: (a, b) => Object.keys(b.Devices).length - Object.keys(a.Devices).length,
  stored: (a, b) => stored(b) - stored(a),
  last: (a, b) => (lastJob(b)?.StartTime ?? 0) - (lastJob(a)?.StartTime ?? 0),
};

function AddAccount({ opened, close }: { opened: boolean; close: () => void }) {
  const client = useQueryClient();
  const [name, setName] = useState('');
  const [password, setPassword] = useState('');
  const add = useMutation({
    mutationFn: () =>
      call('/api/v1/admin/add-user', { TargetUser: name, TargetPassword: password, StoreRecoveryCode: 1 }),
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: ['profiles'] });
      setName('');
      setPassword('');
      close();
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    add.mutate();
  };
  return (
    <Modal opened={opened} onClose={close} title="Add account">
      <form onSubmit={submit}>
        <Stack gap="sm">
          <Failure error={add.error} />
          <TextInput
            label="Account name"
            required
            value={name}
            onChange={(e) => setName(e.currentTarget.value)}
            data-autofocus
          />
          <PasswordInput
            label="Password"
            description="At least 8 characters"
            required
            minLength={8}
            autoComplete="new-password"
            value={password}
            onChange={(e) => setPassword(e.currentTarget.value)}
          />
          <Group justify="flex-end">
            <Button variant="default" onClick={close}>
              Cancel
            </Button>
            <Button type="submit" loading={add.isPending}>
              Add
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}

function AccountTable({ profiles, words }: { profiles: Profile[]; words: string }) {
  const [sort, setSort] = useState<SortKey>('name');
  const box = useRef<HTMLDivElement>(null);
  const found = profiles.filter((p) => matches(words, p.Username, p.AccountName)).sort(SORTS[sort]);
  const rows = useVirtualizer({
    count: found.length,
    getScrollElement: () => box.current,
    estimateSize: () => 37,
    overscan: 12,
    initialRect: { width: 800, height: 600 },
  });
  if (profiles.length === 0) return <Empty>No accounts yet. Add the first one above.</Empty>;
  if (found.length === 0) return <Empty>No account fits the search.</Empty>;
  const shown = rows.getVirtualItems();
  const head = (key: SortKey, label: string, right = false) => (
    <Table.Th ta={right ? 'right' : undefined} aria-sort={sort === key ? 'ascending' : undefined}>
      <Button
        variant="transparent"
        color="gray"
        size="compact-sm"
        p={0}
        fw={700}
        c={sort === key ? undefined : 'dimmed'}
        onClick={() => setSort(key)}
      >
        {label}
      </Button>
    </Table.Th>
  );
  return (
    <div ref={box} className="rows">
      <Table highlightOnHover verticalSpacing={6} miw={640}>
        <Table.Thead>
          <Table.Tr>
            {head('name', 'Account')}
            <Table.Th>State</Table.Th>
            {head('devices', 'Devices', true)}
            <Table.Th ta="right">Protected Items</Table.Th>
            {head('stored', 'Stored', true)}
            {head('last', 'Last backup')}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          <tr style={{ height: shown[0]?.start ?? 0 }} />
          {shown.map(({ index }) => {
            const p = found[index];
            if (!p) return null;
            const last = lastJob(p);
            return (
              <Table.Tr key={p.Username}>
                <Table.Td>
                  <Link to="/accounts/$username" params={{ username: p.Username }}>
                    {p.Username}
                  </Link>{' '}
                  {p.AccountName}
                </Table.Td>
                <Table.Td>
                  {p.IsSuspended ? (
                    <Badge color="red" variant="light" tt="none">
                      Suspended
                    </Badge>
                  ) : (
                    'Active'
                  )}
                </Table.Td>
                <Table.Td ta="right">{Object.keys(p.Devices).length}</Table.Td>
                <Table.Td ta="right">{Object.keys(p.Sources).length}</Table.Td>
                <Table.Td ta="right">{bytes(stored(p))}</Table.Td>
                <Table.Td>
                  {last ? (
                    <Group gap="xs" wrap="nowrap">
                      <StatusBadge status={last.Status} />
                      <Time unix={last.StartTime} />
                    </Group>
                  ) : (
                    'never'
                  )}
                </Table.Td>
              </Table.Tr>
            );
          })}
          <tr style={{ height: rows.getTotalSize() - (shown.at(-1)?.end ?? 0) }} />
        </Table.Tbody>
      </Table>
    </div>
  );
}

export function Accounts() {
  const profiles = useProfiles();
  const words = useSearch({ from: '/shell/accounts' }).q ?? '';
  const navigate = useNavigate();
  const setWords = (q: string) => navigate({ to: '/accounts', search: q ? { q } : {}, replace: true });
  const [opened, { open, close }] = useDisclosure(false);
  return (
    <Page
      title="Accounts"
      aside={
        <>
          <TextInput
            placeholder="Search"
            aria-label="Search accounts"
            value={words}
            onChange={(e) => setWords(e.currentTarget.value)}
          />
          <Button onClick={open}>Add account</Button>
        </>
      }
    >
      <AddAccount opened={opened} close={close} />
      <Loaded query={profiles}>
        {(data) => <AccountTable profiles={Object.values(data)} words={words} />}
      </Loaded>
    </Page>
  );
}
