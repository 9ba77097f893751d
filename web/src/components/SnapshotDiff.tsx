// What changed between two snapshots, by the account's device: one folder after the other, until enough was found.
import { Alert, Button, Group, Stack, Text } from '@mantine/core';
import { useQueryClient } from '@tanstack/react-query';
import { Link, useParams } from '@tanstack/react-router';
import { useEffect, useRef, useState } from 'react';
import { folderQuery } from '../api/queries';
import type { Snapshot } from '../api/types';
import { plural, t } from '../i18n';
import { type Change, compareFolder, growthOf, type Kind, type Pair } from '../lib/diff';
import { bytes, count, exact, type Tone } from '../lib/format';
import { useParam } from '../lib/search';
import { type Column, DataTable } from './DataTable';
import { Filter } from './Filters';
import { Failure, Tag, Time } from './parts';

/** Folders that are compared until somebody wants more, and changes that are kept. */
const FOLDERS = 500;
const CHANGES = 20_000;

const TONES: Record<Kind, Tone> = { added: 'good', removed: 'bad', changed: 'busy' };
const KINDS: Kind[] = ['added', 'removed', 'changed'];
const kindName = (kind: Kind) =>
  kind === 'added' ? t('Added') : kind === 'removed' ? t('Removed') : t('Changed');

type Found = { changes: Change[]; queue: Pair[]; compared: number };
const START: Found = { changes: [], queue: [{ path: '', older: '', newer: '' }], compared: 0 };

const nameOf = (path: string) => path.slice(path.lastIndexOf('/') + 1);
const folderOf = (path: string) => path.slice(0, path.lastIndexOf('/'));

const signed = (n: number) => (n < 0 ? `−${bytes(-n)}` : `+${bytes(n)}`);

/** Compares folder by folder; what has been found is shown meanwhile. */
function useDiff(target: string, vault: string, older: string, newer: string) {
  const client = useQueryClient();
  const [found, setFound] = useState(START);
  const [limit, setLimit] = useState(FOLDERS);
  const [error, setError] = useState<Error | null>(null);
  const at = useRef(START);
  useEffect(() => {
    let ended = false;
    const list = (snapshot: string, tree: string | undefined) =>
      tree === undefined ? [] : client.ensureQueryData(folderQuery({ target, vault, snapshot }, tree));
    const walk = async () => {
      for (;;) {
        const [next, ...queue] = at.current.queue;
        const { changes, compared } = at.current;
        if (!next || compared >= limit || changes.length >= CHANGES) return;
        const [before, after] = await Promise.all([list(older, next.older), list(newer, next.newer)]);
        if (ended) return;
        const here = compareFolder(next.path, before, after);
        at.current = {
          changes: [...changes, ...here.changes],
          queue: [...here.below, ...queue],
          compared: compared + 1,
        };
        setFound(at.current);
      }
    };
    walk().catch((failure: Error) => {
      if (!ended) setError(failure);
    });
    return () => {
      ended = true;
    };
  }, [client, target, vault, older, newer, limit]);
  const full = found.changes.length >= CHANGES;
  return {
    ...found,
    error,
    full,
    paused: found.queue.length > 0 && found.compared >= limit && !full,
    more: () => setLimit(limit + FOLDERS),
  };
}

export function SnapshotDiff({
  target,
  vault,
  older,
  newer,
}: {
  target: string;
  vault: string;
  older: Snapshot;
  newer: Snapshot;
}) {
  const { username = '' } = useParams({ strict: false });
  const [show, setShow] = useParam('show');
  const diff = useDiff(target, vault, older.Snapshot, newer.Snapshot);
  const sums = KINDS.map((kind) => [kind, diff.changes.filter((c) => c.kind === kind).length] as const);
  const growth = diff.changes.reduce((sum, c) => sum + growthOf(c), 0);
  const busy = diff.queue.length > 0 && !diff.paused && !diff.full && !diff.error;
  const columns: Column<Change>[] = [
    {
      key: 'name',
      label: t('Name'),
      width: 210,
      value: (c) => nameOf(c.path),
      cell: (c) => {
        const object = c.after ?? c.before;
        const folder = object?.subtree ? c.path : folderOf(c.path);
        return (
          <Link
            to="/accounts/$username/vaults/$vault"
            params={{ username, vault }}
            search={{ snapshot: (c.after ? newer : older).Snapshot, ...(folder ? { path: folder } : {}) }}
            title={c.path}
          >
            {nameOf(c.path)}
            {object?.subtree ? '/' : ''}
          </Link>
        );
      },
    },
    {
      key: 'path',
      label: t('Folder'),
      width: 260,
      value: (c) => folderOf(c.path),
      cell: (c) => <span title={folderOf(c.path)}>{folderOf(c.path)}</span>,
    },
    {
      key: 'kind',
      label: t('What'),
      width: 100,
      value: (c) => kindName(c.kind),
      cell: (c) => <Tag tone={TONES[c.kind]}>{kindName(c.kind)}</Tag>,
    },
    {
      key: 'before',
      label: t('Size before'),
      width: 105,
      right: true,
      descending: true,
      value: (c) => (c.before?.type === 'file' ? c.before.size : ''),
      cell: (c) => (c.before?.type === 'file' ? bytes(c.before.size) : ''),
    },
    {
      key: 'after',
      label: t('Size after'),
      width: 100,
      right: true,
      descending: true,
      value: (c) => (c.after?.type === 'file' ? c.after.size : ''),
      cell: (c) => (c.after?.type === 'file' ? bytes(c.after.size) : ''),
    },
    {
      key: 'growth',
      label: t('Difference'),
      width: 110,
      right: true,
      descending: true,
      value: growthOf,
      cell: (c) => (growthOf(c) === 0 ? '' : signed(growthOf(c))),
    },
    {
      key: 'time',
      label: t('Changed'),
      width: 130,
      descending: true,
      value: (c) => (c.after ?? c.before)?.mtime ?? 0,
      cell: (c) => <Time unix={(c.after ?? c.before)?.mtime ?? 0} />,
    },
  ];
  return (
    <Stack gap="sm">
      <Failure error={diff.error} />
      <Text size="sm">
        {t('From {older} to {newer}', {
          older: exact(older.CreateTime),
          newer: exact(newer.CreateTime),
        })}
        {': '}
        <strong>
          {sums.map(([kind, n]) => `${kindName(kind)} ${count(n)}`).join(', ')} · {signed(growth)}
        </strong>
      </Text>
      <Group gap="xs">
        <Text size="xs" c="dimmed" role="status">
          {plural(diff.compared, '{n} folder compared', '{n} folders compared')}
          {busy && ` · ${plural(diff.queue.length, '{n} to go', '{n} to go')}`}
          {!busy && diff.queue.length === 0 && ` · ${t('all of it')}`}
        </Text>
        {diff.paused && (
          <Button size="compact-xs" variant="default" onClick={diff.more}>
            {plural(diff.queue.length, 'Go on: {n} folder or more', 'Go on: {n} folders or more')}
          </Button>
        )}
      </Group>
      {diff.full && (
        <Alert color="orange" variant="light">
          {t('So much differs that only the first {n} changes are shown.', { n: CHANGES })}
        </Alert>
      )}
      <DataTable
        name="diff"
        sort="path"
        label={t('changes')}
        rows={show ? diff.changes.filter((c) => c.kind === show) : diff.changes}
        columns={columns}
        id={(c) => `${c.kind} ${c.path}`}
        aside={
          <Filter
            label={t('What')}
            value={show}
            set={setShow}
            options={[['', t('All changes')], ...KINDS.map((kind): [Kind, string] => [kind, kindName(kind)])]}
          />
        }
        empty={
          busy
            ? t('Comparing…')
            : t('Nothing differs but perhaps permissions and owners: names, sizes and times are the same.')
        }
      />
    </Stack>
  );
}
