// What a Storage Vault holds: its snapshots by list or calendar, their folders, and what is restored from them.
import {
  Alert,
  Breadcrumbs,
  Button,
  Checkbox,
  Group,
  Modal,
  Select,
  Stack,
  Switch,
  Text,
  TextInput,
} from '@mantine/core';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { Link, useNavigate, useParams, useRouter, useSearch } from '@tanstack/react-router';
import { type FormEvent, lazy, Suspense, useMemo, useState } from 'react';
import { call } from '../api/client';
import {
  base,
  isAdmin,
  runRestore,
  useConnections,
  useFolder,
  useProfile,
  useSnapshots,
} from '../api/queries';
import type { LiveConnection, Profile, Snapshot, StoredObject } from '../api/types';
import { DangerButton } from '../components/Danger';
import { type Column, DataTable } from '../components/DataTable';
import { FileDownload } from '../components/FileDownload';
import { FindFile } from '../components/FindFile';
import { FolderPicker } from '../components/FolderPicker';
import { Down, File as FileIcon, Folder as FolderIcon, Search as SearchIcon } from '../components/icons';
import { AnchorLink } from '../components/links';
import { Actions, Empty, Failure, Loaded, Page, Time } from '../components/parts';
import { t } from '../i18n';
import { bytes, exact } from '../lib/format';
import { type Search, useDialog, useDialogOf, useParam } from '../lib/search';
import { anyConnection, connectionsOf } from './account/connections';

const SnapshotDiff = lazy(() =>
  import('../components/SnapshotDiff').then((m) => ({ default: m.SnapshotDiff })),
);
const SnapshotCalendar = lazy(() =>
  import('../components/SnapshotCalendar').then((m) => ({ default: m.SnapshotCalendar })),
);

const restoreName = (paths: string[]) => {
  const [only] = paths;
  if (only === undefined) return t('Restore everything');
  if (paths.length > 1) return t('Restore {n} selected', { n: paths.length });
  return t('Restore {name}', { name: only.slice(only.lastIndexOf('/') + 1) });
};

function RestoreDialog(props: {
  close: () => void;
  profile: Profile;
  connections: Record<string, LiveConnection>;
  target: string;
  vault: string;
  snapshot: Snapshot;
  paths: string[];
}) {
  const { close, profile, connections, target, vault, snapshot, paths } = props;
  const navigate = useNavigate();
  const [folder, setFolder] = useState('/tmp/restored');
  const [kind, setKind] = useState('files');
  const [overwrite, setOverwrite] = useState<string>('never');
  const [skipDamage, setSkipDamage] = useState(false);
  const [picking, setPicking] = useState(false);
  // Any device of the account may restore what another one saved.
  const devices = Object.entries(profile.Devices)
    .map(([id, d]) => ({
      value: connectionsOf(connections, profile.Username, id)[0] ?? '',
      label: d.FriendlyName || id,
    }))
    .filter((d) => d.value !== '');
  const [device, setDevice] = useState(target);
  const original = kind === 'original';
  const test = kind === 'test';
  const start = useMutation({
    mutationFn: () =>
      runRestore({
        TargetID: device,
        Source: snapshot.Source,
        Destination: vault,
        Snapshot: snapshot.Snapshot,
        Paths: paths,
        Options: {
          Type: test ? 1 : 0,
          DestIsOriginalLocation: original,
          DestPath: original || test ? '' : folder,
          OverwriteExistingFiles: overwrite !== 'never',
          OverwriteIfNewer: overwrite === 'newer',
          OverwriteIfDifferentContent: overwrite === 'different',
          SkipUnreadableChunks: skipDamage,
        },
      }),
    onSuccess: (answer) =>
      answer.JobID ? navigate({ to: '/jobs/$id', params: { id: answer.JobID } }) : navigate({ to: '/jobs' }),
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    start.mutate();
  };
  return (
    <Modal opened onClose={close} size="lg" title={restoreName(paths)}>
      <form onSubmit={submit}>
        <Stack gap="sm">
          <Failure error={start.error} />
          <Text size="sm" c="dimmed">
            {t('From the snapshot of {time}', { time: exact(snapshot.CreateTime) })}
          </Text>
          {devices.length > 1 && (
            <Select
              label={t('By which device')}
              data={devices}
              value={device}
              onChange={(next) => setDevice(next ?? target)}
            />
          )}
          <Select
            label={t('To where')}
            value={kind}
            onChange={(next) => setKind(next ?? 'files')}
            data={[
              { value: 'files', label: t('To a folder on the device') },
              { value: 'original', label: t('To where it came from') },
              { value: 'test', label: t('Nowhere: only test that everything can be read') },
            ]}
          />
          {kind === 'files' && (
            <>
              <Group gap="xs" align="flex-end">
                <TextInput
                  flex={1}
                  label={t('Folder on the device')}
                  required
                  value={folder}
                  onChange={(e) => setFolder(e.currentTarget.value)}
                />
                <Button
                  variant="default"
                  onClick={() => setPicking(!picking)}
                  aria-expanded={picking}
                  leftSection={<FolderIcon size={14} />}
                >
                  {t('Choose')}
                </Button>
              </Group>
              {picking && <FolderPicker target={device} value={folder} set={setFolder} />}
            </>
          )}
          {!test && (
            <Select
              label={t('Files that exist already')}
              value={overwrite}
              onChange={(next) => setOverwrite(next ?? 'never')}
              data={[
                { value: 'never', label: t('Keep them') },
                { value: 'newer', label: t('Replace if the backup is newer') },
                { value: 'different', label: t('Replace if the content differs') },
                { value: 'always', label: t('Replace them') },
              ]}
            />
          )}
          <Switch
            label={t('Go on where the vault is damaged')}
            description={t('Missing parts are filled with zeros')}
            checked={skipDamage}
            onChange={(e) => setSkipDamage(e.currentTarget.checked)}
          />
          <Actions
            close={close}
            action={test ? t('Start test') : t('Start restore')}
            busy={start.isPending}
          />
        </Stack>
      </form>
    </Modal>
  );
}

/** What the open dialog restores: nothing named is everything. Several paths stand on lines of their own. */
function useRestore(): [string[] | null, (paths: string[] | null) => void] {
  const { dialog, which = '' } = useSearch({ strict: false }) as Search;
  const navigate = useNavigate();
  const set = (paths: string[] | null) =>
    navigate({
      to: '.',
      replace: paths === null,
      search: ({ dialog: _, which: __, ...rest }: Search) => ({
        ...rest,
        ...(paths && { dialog: 'restore' }),
        ...(paths?.length && { which: paths.join('\n') }),
      }),
    });
  return [dialog === 'restore' ? which.split('\n').filter(Boolean) : null, set];
}

function Folder(props: {
  profile: Profile;
  connections: Record<string, LiveConnection>;
  target: string;
  vault: string;
  snapshot: Snapshot;
}) {
  const { target, vault, snapshot } = props;
  const { username = '' } = useParams({ strict: false });
  const { history } = useRouter();
  const [here] = useParam('path');
  const names = here.split('/').filter(Boolean);
  /** The address of a folder. */
  const at = (path: string) => ({
    to: '/accounts/$username/vaults/$vault' as const,
    params: { username, vault },
    search: { snapshot: snapshot.Snapshot, ...(path ? { path } : {}) },
  });
  const [chosen, setChosen] = useState<string[]>([]);
  const [restoring, setRestoring] = useRestore();
  const [wanted, setWanted] = useDialogOf('download');
  const objects = useFolder({ target, vault, snapshot: snapshot.Snapshot }, here);
  const pathOf = (object: StoredObject) => `${here}/${object.name}`;
  const file = objects.data?.find((o) => o.type === 'file' && pathOf(o) === wanted);
  const toggle = (path: string) =>
    setChosen((old) => (old.includes(path) ? old.filter((p) => p !== path) : [...old, path]));
  const columns: Column<StoredObject>[] = [
    {
      key: 'name',
      label: t('Name'),
      width: 360,
      value: (o) => o.name,
      cell: (o) => (
        <Group gap="sm" wrap="nowrap">
          <Checkbox
            size="xs"
            aria-label={t('Select {name}', { name: o.name })}
            checked={chosen.includes(pathOf(o))}
            onChange={() => toggle(pathOf(o))}
          />
          {o.type === 'dir' ? <FolderIcon size={14} aria-hidden /> : <FileIcon size={14} aria-hidden />}
          <span className="cut" title={o.name}>
            {o.type === 'dir' ? <Link {...at(pathOf(o))}>{o.name}/</Link> : o.name}
          </span>
        </Group>
      ),
    },
    {
      key: 'size',
      label: t('Size'),
      width: 110,
      right: true,
      descending: true,
      value: (o) => (o.type === 'file' ? o.size : ''),
      cell: (o) => (o.type === 'file' ? bytes(o.size) : ''),
    },
    {
      key: 'changed',
      label: t('Changed'),
      width: 150,
      descending: true,
      value: (o) => o.mtime,
      cell: (o) => <Time unix={o.mtime} />,
    },
    {
      key: 'actions',
      label: '',
      width: 190,
      right: true,
      value: () => '',
      cell: (o) => (
        <>
          {o.type === 'file' && (
            <Button
              size="compact-xs"
              variant="subtle"
              aria-label={t('Download {name}', { name: o.name })}
              onClick={() => setWanted(pathOf(o))}
            >
              {t('Download')}
            </Button>
          )}
          <Button
            size="compact-xs"
            variant="subtle"
            aria-label={t('Restore {name}', { name: o.name })}
            onClick={() => setRestoring([pathOf(o)])}
          >
            {t('Restore')}
          </Button>
        </>
      ),
    },
  ];
  return (
    <Stack gap="sm">
      {file && (
        <FileDownload
          target={target}
          vault={vault}
          snapshot={snapshot.Snapshot}
          file={{ path: wanted, size: file.size }}
          close={() => setWanted('')}
        />
      )}
      {restoring && <RestoreDialog {...props} close={() => setRestoring(null)} paths={restoring} />}
      <Group justify="space-between" gap="xs">
        <Breadcrumbs separator="/" separatorMargin={4} className="crumbs">
          <Link {...at('')}>{t('Snapshot')}</Link>
          {names.map((name, depth) => {
            const path = `/${names.slice(0, depth + 1).join('/')}`;
            return (
              <Link key={path} {...at(path)}>
                {name}
              </Link>
            );
          })}
        </Breadcrumbs>
        <Group gap="xs">
          {chosen.length > 0 && (
            <Button variant="default" onClick={() => setChosen([])}>
              {t('Choose nothing')}
            </Button>
          )}
          <Button onClick={() => setRestoring(chosen.length === 0 && here ? [here] : chosen)}>
            {chosen.length === 0 && here
              ? t('Restore this folder')
              : chosen.length === 0
                ? t('Restore everything')
                : t('Restore {n} selected', { n: chosen.length })}
          </Button>
        </Group>
      </Group>
      <Loaded query={objects}>
        {(list) => (
          <DataTable
            name="folder"
            label={t('this folder')}
            rows={list}
            columns={columns}
            id={(o) => o.name}
            open={(o) => {
              if (o.type !== 'dir') return;
              const search = new URLSearchParams(at(pathOf(o)).search).toString();
              history.push(`${location.pathname}?${search}`);
            }}
            empty={t('This folder is empty.')}
          />
        )}
      </Loaded>
    </Stack>
  );
}

function Snapshots({
  target,
  vault,
  list,
  chosen,
  profile,
  choose,
}: {
  target: string;
  vault: string;
  list: Snapshot[];
  chosen: Snapshot;
  profile: Profile;
  choose: (snapshot: string) => void;
}) {
  const [item, setItem] = useParam('where');
  const [view, setView] = useParam('show');
  const calendar = view === 'calendar';
  const [finding, setFinding] = useDialog('find');
  const name = (source: string) => profile.Sources[source]?.Description ?? t('unknown item');
  const items = [...new Set(list.map((s) => s.Source))];
  const shown = useMemo(() => list.filter((s) => !item || s.Source === item), [list, item]);
  const [compare, setCompare] = useParam('compare', { keep: true });
  // Only snapshots of the same item have something in common. The newest comes first.
  const others = list.filter((s) => s.Source === chosen.Source && s.Snapshot !== chosen.Snapshot);
  const before = others.filter((s) => s.CreateTime <= chosen.CreateTime);
  const older = before.length > 0 ? before : others;
  return (
    <Stack gap="xs">
      <Group gap="xs" align="flex-end">
        <Select
          label={t('Snapshot')}
          w={400}
          maw="100%"
          searchable
          value={chosen.Snapshot}
          data={shown.map((s) => ({
            value: s.Snapshot,
            label: `${exact(s.CreateTime)} – ${name(s.Source)}`,
          }))}
          onChange={(next) => next && choose(next)}
        />
        {compare && (
          <Select
            label={t('Compared with')}
            w={200}
            searchable
            value={compare}
            data={others.map((s) => ({ value: s.Snapshot, label: exact(s.CreateTime) }))}
            onChange={(next) => next && setCompare(next)}
          />
        )}
        {items.length > 1 && (
          <Select
            label={t('Protected Item')}
            w={220}
            value={item}
            onChange={setItem}
            data={[
              { value: '', label: t('All items') },
              ...items.map((source) => ({ value: source, label: name(source) })),
            ]}
          />
        )}
        <Button
          variant="default"
          onClick={() => setView(calendar ? null : 'calendar')}
          aria-expanded={calendar}
          rightSection={<Down size={14} />}
        >
          {t('Calendar')}
        </Button>
        <Button
          variant="default"
          disabled={older.length === 0}
          onClick={() => setCompare(compare ? null : (older[0]?.Snapshot ?? null))}
          aria-pressed={compare !== ''}
        >
          {compare ? t('Back to the files') : t('What changed')}
        </Button>
        <Button variant="default" leftSection={<SearchIcon size={14} />} onClick={() => setFinding(true)}>
          {t('Find a file')}
        </Button>
      </Group>
      {finding && (
        <FindFile
          target={target}
          vault={vault}
          list={shown}
          username={profile.Username}
          close={() => setFinding(false)}
        />
      )}
      {calendar && (
        <Suspense>
          <SnapshotCalendar list={shown} chosen={chosen} choose={choose} />
        </Suspense>
      )}
    </Stack>
  );
}

export function Browse() {
  const { username = '', vault = '' } = useParams({ strict: false });
  const [wanted] = useParam('snapshot');
  const navigate = useNavigate();
  const client = useQueryClient();
  const profile = useProfile(username);
  const connections = useConnections();
  const target = anyConnection(connections.data ?? {}, username);
  const snapshots = useSnapshots(target, vault);
  const p = profile.data?.Profile;
  const name = p?.Destinations[vault]?.Description ?? vault;
  const [item] = useParam('where');
  const [compare] = useParam('compare');
  const chosen =
    snapshots.data?.find((s) => s.Snapshot === wanted) ??
    snapshots.data?.find((s) => (!item || s.Source === item) && s.Snapshot !== compare) ??
    snapshots.data?.[0];
  const against = snapshots.data?.find((s) => s.Snapshot === compare && s.Snapshot !== chosen?.Snapshot);
  const home = isAdmin()
    ? { to: '/accounts/$username' as const, params: { username }, search: { tab: 'vaults' } }
    : { to: '/' as const, search: { tab: 'vaults' } };
  const choose = (snapshot: string) =>
    navigate({
      to: '/accounts/$username/vaults/$vault',
      params: { username, vault },
      search: ({ show }: Search) => ({ ...(show ? { show } : {}), snapshot }),
    });
  return (
    <Page
      title={
        <>
          <AnchorLink {...home} inherit c="dimmed">
            {isAdmin() ? username : t('Home')}
          </AnchorLink>{' '}
          / {name}
        </>
      }
      aside={
        chosen &&
        target &&
        (isAdmin() || !p?.Policy?.PreventDeleteSingleSnapshots) && (
          <DangerButton
            label={t('Delete snapshot')}
            dialog="delete"
            button={{ variant: 'light', size: 'xs' }}
            title={t('Delete snapshot')}
            text={t('The backup of {time} is deleted from the vault. This can not be undone.', {
              time: exact(chosen.CreateTime),
            })}
            run={async () => {
              await call(`${base()}/dispatcher/delete-snapshot`, {
                TargetID: target,
                DestinationID: vault,
                SnapshotID: chosen.Snapshot,
              });
              await client.invalidateQueries({ queryKey: ['snapshots', vault] });
            }}
            leave={() => navigate({ to: '/jobs' })}
          />
        )
      }
    >
      {connections.data && !target ? (
        <Alert color="orange" variant="light" title={t('No device is on line')}>
          {t("Only the account's own devices can read its vaults. Start the agent on one of them.")}
        </Alert>
      ) : (
        <Loaded query={snapshots}>
          {(list) =>
            !chosen || !target || !p ? (
              <Empty>{t('No snapshots yet. Run a backup into this vault first.')}</Empty>
            ) : (
              <>
                <Snapshots
                  target={target}
                  vault={vault}
                  list={list}
                  chosen={chosen}
                  profile={p}
                  choose={choose}
                />
                {against ? (
                  <Suspense>
                    <SnapshotDiff
                      key={`${chosen.Snapshot} ${against.Snapshot}`}
                      target={target}
                      vault={vault}
                      // From the earlier to the later one, whichever was chosen first.
                      older={against.CreateTime <= chosen.CreateTime ? against : chosen}
                      newer={against.CreateTime <= chosen.CreateTime ? chosen : against}
                    />
                  </Suspense>
                ) : (
                  <Folder
                    key={chosen.Snapshot}
                    profile={p}
                    connections={connections.data ?? {}}
                    target={target}
                    vault={vault}
                    snapshot={chosen}
                  />
                )}
                <Text size="xs" c="dimmed">
                  {t("Read through the account's device; the server holds no key.")}
                </Text>
              </>
            )
          }
        </Loaded>
      )}
    </Page>
  );
}
