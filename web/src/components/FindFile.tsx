// Looks for a file in all snapshots of a vault, through a device: the way back to what is no more in the newest.
import { Button, Group, Modal, Stack, Table, Text, TextInput } from '@mantine/core';
import { useMutation } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { type FormEvent, useState } from 'react';
import { call } from '../api/client';
import { base } from '../api/queries';
import type { Snapshot } from '../api/types';
import { plural, t } from '../i18n';
import { bytes, exact } from '../lib/format';
import { Empty, Failure } from './parts';

type Found = { path: string; name: string; type: string; mtime: string; size: number };
type Row = Found & { snapshot: Snapshot };

/** Rows shown at once. */
const SHOWN = 500;

export function FindFile({
  target,
  vault,
  list,
  username,
  close,
}: {
  target: string;
  vault: string;
  list: Snapshot[];
  username: string;
  close: () => void;
}) {
  const [words, setWords] = useState('');
  const find = useMutation({
    mutationFn: async (): Promise<Row[]> => {
      const answer = await call<{ SnapshotFiles: Record<string, Found[]> }>(
        `${base()}/dispatcher/search-snapshots`,
        {
          TargetID: target,
          DestinationID: vault,
          SnapshotIDs: list.map((s) => s.Snapshot),
          Filter: {
            ClauseType: '',
            RuleField: 'File',
            RuleOperator: 'str_contains_ci',
            RuleValue: words.trim(),
            ClauseChildren: [],
          },
        },
      );
      const rows = list.flatMap((snapshot) =>
        (answer.SnapshotFiles[snapshot.Snapshot] ?? []).map((found) => ({ ...found, snapshot })),
      );
      return rows.sort(
        (a, b) => a.path.localeCompare(b.path) || b.snapshot.CreateTime - a.snapshot.CreateTime,
      );
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (words.trim() !== '') find.mutate();
  };
  const folderOf = (path: string) => `/${path.split('/').filter(Boolean).slice(0, -1).join('/')}`;
  return (
    <Modal opened onClose={close} size="xl" title={t('Find a file in all snapshots')}>
      <form onSubmit={submit}>
        <Stack gap="sm">
          <Failure error={find.error} />
          <Group gap="xs" align="flex-end">
            <TextInput
              flex={1}
              label={t('Part of its name')}
              value={words}
              onChange={(e) => setWords(e.currentTarget.value)}
              data-autofocus
            />
            <Button type="submit" loading={find.isPending}>
              {t('Find')}
            </Button>
          </Group>
          {find.data?.length === 0 && <Empty>{t('No snapshot has such a file.')}</Empty>}
          {find.data && find.data.length > 0 && (
            <>
              <Text size="sm" c="dimmed" role="status">
                {plural(find.data.length, '{n} version found', '{n} versions found')}
              </Text>
              <div className="rows" role="region" aria-label={t('Found files')} tabIndex={0}>
                <Table verticalSpacing={5} miw={560}>
                  <Table.Thead>
                    <Table.Tr>
                      <Table.Th>{t('Name')}</Table.Th>
                      <Table.Th>{t('Snapshot')}</Table.Th>
                      <Table.Th ta="right">{t('Size')}</Table.Th>
                    </Table.Tr>
                  </Table.Thead>
                  <Table.Tbody>
                    {find.data.slice(0, SHOWN).map((row) => (
                      <Table.Tr key={`${row.snapshot.Snapshot} ${row.path}`}>
                        <Table.Td>
                          <Link
                            to="/accounts/$username/vaults/$vault"
                            params={{ username, vault }}
                            search={{
                              snapshot: row.snapshot.Snapshot,
                              path: folderOf(row.path),
                              q: row.name,
                            }}
                          >
                            {row.path}
                          </Link>
                        </Table.Td>
                        <Table.Td>{exact(row.snapshot.CreateTime)}</Table.Td>
                        <Table.Td ta="right">{row.type === 'file' ? bytes(row.size) : ''}</Table.Td>
                      </Table.Tr>
                    ))}
                  </Table.Tbody>
                </Table>
              </div>
              {find.data.length > SHOWN && (
                <Text size="sm" c="dimmed">
                  {t('{n} more: name it more exactly.', { n: find.data.length - SHOWN })}
                </Text>
              )}
            </>
          )}
        </Stack>
      </form>
    </Modal>
  );
}
