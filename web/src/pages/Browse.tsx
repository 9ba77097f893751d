import {
  Alert,
  Anchor,
  Breadcrumbs,
  Button,
  Checkbox,
  Group,
  Modal,
  Select,
  Stack,
  Switch,
  Table,
  Text,
  TextInput,
} from '@mantine/core';
import { useDisclosure } from '@mantine/hooks';
import { useMutation } from '@tanstack/react-query';
import { Link, useNavigate, useParams, useSearch } from '@tanstack/react-router';
import { useState } from 'react';
import { isAdmin, runRestore, useConnections, useFolder, useProfile, useSnapshots } from '../api/queries';
import type { Snapshot } from '../api/types';
import { Empty, Failure, Loaded, Page, Time } from '../components/parts';
import { bytes, exact } from '../lib/format';
import { anyConnection } from './Account';

function RestoreDialog(props: {
  opened: boolean;
  close: () => void;
  target: string;
  vault: string;
  snapshot: Snapshot;
  paths: string[];
}) {
  const { opened, close, target, vault, snapshot, paths } = props;
  const navigate = useNavigate();
  const [folder, setFolder] = useState('/tmp/restored');
  const [original, setOriginal] = useState(false);
  const [overwrite, setOverwrite] = useState<string | null>('never');
  const start = useMutation({
    mutationFn: () =>
      runRestore({
        TargetID: target,
        Source: snapshot.Source,
        Destination: vault,
        Snapshot: snapshot.Snapshot,
        Paths: paths,
        Options: {
          Type: 0,
          DestIsOriginalLocation: original,
          DestPath: original ? '' : folder,
          OverwriteExistingFiles: overwrite !== 'never',
          OverwriteIfNewer: overwrite === 'newer',
          OverwriteIfDifferentContent: overwrite === 'different',
        },
      }),
    onSuccess: (answer) =>
      answer.JobID ? navigate({ to: '/jobs/$id', params: { id: answer.JobID } }) : navigate({ to: '/jobs' }),
  });
  return (
    <Modal
      opened={opened}
      onClose={close}
      title={paths.length === 0 ? 'Restore everything' : `Restore ${paths.length} selected`}
    >
      <Stack gap="sm">
        <Failure error={start.error} />
        <Switch
          label="To where it came from"
          checked={original}
          onChange={(e) => setOriginal(e.currentTarget.checked)}
        />
        {!original && (
          <TextInput
            label="Folder on the device"
            required
            value={folder}
            onChange={(e) => setFolder(e.currentTarget.value)}
          />
        )}
        <Select
          label="Files that exist already"
          allowDeselect={false}
          value={overwrite}
          onChange={setOverwrite}
          data={[
            { value: 'never', label: 'Keep them' },
            { value: 'newer', label: 'Replace if the backup is newer' },
            { value: 'different', label: 'Replace if the content differs' },
            { value: 'always', label: 'Replace them' },
          ]}
        />
        <Group justify="flex-end">
          <Button variant="default" onClick={close}>
            Cancel
          </Button>
          <Button onClick={() => start.mutate()} loading={start.isPending}>
            Start restore
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}

function Folder({ target, vault, snapshot }: { target: string; vault: string; snapshot: Snapshot }) {
  const search = useSearch({ from: '/shell/accounts/$username/vaults/$vault' });
  const params = useParams({ from: '/shell/accounts/$username/vaults/$vault' });
  const here = search.path ?? '';
  const names = here.split('/').filter(Boolean);
  /** The address of a folder. */
  const at = (path: string) => ({
    to: '/accounts/$username/vaults/$vault' as const,
    params,
    search: { snapshot: snapshot.Snapshot, ...(path ? { path } : {}) },
  });
  const [chosen, setChosen] = useState<string[]>([]);
  const [opened, { open, close }] = useDisclosure(false);
  const objects = useFolder({ target, vault, snapshot: snapshot.Snapshot }, here);
  const toggle = (path: string) =>
    setChosen((old) => (old.includes(path) ? old.filter((p) => p !== path) : [...old, path]));
  return (
    <Stack gap="sm">
      <RestoreDialog
        opened={opened}
        close={close}
        target={target}
        vault={vault}
        snapshot={snapshot}
        paths={chosen}
      />
      <Group justify="space-between">
        <Breadcrumbs separator="/" separatorMargin={4}>
          <Link {...at('')}>Snapshot</Link>
          {names.map((name, depth) => {
            const path = `/${names.slice(0, depth + 1).join('/')}`;
            return (
              <Link key={path} {...at(path)}>
                {name}
              </Link>
            );
          })}
        </Breadcrumbs>
        <Button onClick={open}>
          {chosen.length === 0 ? 'Restore everything' : `Restore ${chosen.length} selected`}
        </Button>
      </Group>
      <Loaded query={objects}>
        {(list) =>
          list.length === 0 ? (
            <Empty>This folder is empty.</Empty>
          ) : (
            <div className="rows">
              <Table highlightOnHover verticalSpacing={5}>
                <Table.Thead>
                  <Table.Tr>
                    <Table.Th w={36} />
                    <Table.Th>Name</Table.Th>
                    <Table.Th ta="right">Size</Table.Th>
                    <Table.Th>Changed</Table.Th>
                  </Table.Tr>
                </Table.Thead>
                <Table.Tbody>
                  {list.map((object) => {
                    const path = `${here}/${object.name}`;
                    return (
                      <Table.Tr key={object.name}>
                        <Table.Td>
                          <Checkbox
                            size="xs"
                            aria-label={`Select ${object.name}`}
                            checked={chosen.includes(path)}
                            onChange={() => toggle(path)}
                          />
                        </Table.Td>
                        <Table.Td>
                          {object.type === 'dir' ? <Link {...at(path)}>{object.name}/</Link> : object.name}
                        </Table.Td>
                        <Table.Td ta="right">{object.type === 'file' ? bytes(object.size) : ''}</Table.Td>
                        <Table.Td>
                          <Time unix={object.mtime} />
                        </Table.Td>
                      </Table.Tr>
                    );
                  })}
                </Table.Tbody>
              </Table>
            </div>
          )
        }
      </Loaded>
    </Stack>
  );
}

export function Browse() {
  const { username, vault } = useParams({ from: '/shell/accounts/$username/vaults/$vault' });
  const search = useSearch({ from: '/shell/accounts/$username/vaults/$vault' });
  const navigate = useNavigate();
  const profile = useProfile(username);
  const connections = useConnections();
  const target = anyConnection(connections.data ?? {}, username);
  const snapshots = useSnapshots(target, vault);
  const name = profile.data?.Profile.Destinations[vault]?.Description ?? vault;
  const sources = profile.data?.Profile.Sources ?? {};
  const chosen = snapshots.data?.find((s) => s.Snapshot === search.snapshot) ?? snapshots.data?.[0];
  return (
    <Page
      title={
        <>
          {isAdmin() ? (
            <Anchor component={Link} to={`/accounts/${username}`} inherit c="dimmed">
              {username}
            </Anchor>
          ) : (
            <Anchor component={Link} to="/" inherit c="dimmed">
              Home
            </Anchor>
          )}{' '}
          / {name}
        </>
      }
    >
      {connections.data && !target ? (
        <Alert color="orange" variant="light" title="No device is on line">
          Only the account's own devices can read its vaults. Start the agent on one of them.
        </Alert>
      ) : (
        <Loaded query={snapshots}>
          {(list) =>
            !chosen || !target ? (
              <Empty>No snapshots yet. Run a backup into this vault first.</Empty>
            ) : (
              <>
                <Select
                  label="Snapshot"
                  maw={460}
                  allowDeselect={false}
                  value={chosen.Snapshot}
                  data={list.map((s) => ({
                    value: s.Snapshot,
                    label: `${exact(s.CreateTime)} – ${sources[s.Source]?.Description ?? 'unknown item'}`,
                  }))}
                  onChange={(snapshot) =>
                    snapshot &&
                    navigate({
                      to: '/accounts/$username/vaults/$vault',
                      params: { username, vault },
                      search: { snapshot },
                    })
                  }
                />
                <Folder key={chosen.Snapshot} target={target} vault={vault} snapshot={chosen} />
                <Text size="xs" c="dimmed">
                  Read through the account's device; the server holds no key.
                </Text>
              </>
            )
          }
        </Loaded>
      )}
    </Page>
  );
}
