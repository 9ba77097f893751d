// What the server enforces for a bucket, whoever holds its key, and what was deleted from it.
import { Alert, Button, Group, Modal, Stack, Table, Text } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { call } from '../../api/client';
import { useTopLevel } from '../../api/queries';
import { Fields } from '../../components/Fields';
import { Actions, Empty, Failure, Loaded, Section, Time } from '../../components/parts';
import { plural, t } from '../../i18n';
import { bytes, count } from '../../lib/format';

type Rules = { QuotaBytes: number; AppendOnly: boolean; TrashDays: number };
type Deleted = { Time: number; Objects: number; Snapshots: number; Bytes: number };

const own = <T,>(deed: string, fields: Record<string, string | number | boolean>) =>
  call<T>(`/api/encke/v1/bucket/${deed}`, fields);

function Form({ id, stored, close }: { id: string; stored: Rules; close: () => void }) {
  const topLevel = useTopLevel();
  const client = useQueryClient();
  const [draft, setDraft] = useState(stored);
  const save = useMutation({
    mutationFn: () => own('set-rules', { BucketID: id, ...draft, AppendOnly: draft.AppendOnly ? 1 : 0 }),
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: ['bucket-rules', id] });
      close();
    },
  });
  return (
    <Stack gap="sm">
      <Failure error={save.error} />
      <Fields
        doc={draft}
        change={setDraft}
        fields={[
          {
            path: 'QuotaBytes',
            label: t('Most it may hold'),
            help: topLevel ? t('0: as much as the disk takes') : t('Set by the top level'),
            kind: 'gib',
            disabled: !topLevel,
          },
          {
            path: 'TrashDays',
            label: t('Keep deleted data for'),
            help: t('Days; 0: deleted at once'),
            kind: 'number',
            max: 3650,
          },
          {
            path: 'AppendOnly',
            label: t('Append only'),
            help: t("The bucket's key deletes nothing: neither a thief nor retention frees space"),
            kind: 'switch',
            wide: true,
          },
        ]}
      />
      {draft.TrashDays < stored.TrashDays && (
        <Alert color="orange" variant="light">
          {t('What lies in the trash for longer is deleted for good.')}
        </Alert>
      )}
      <Actions close={close} action={t('Save')} busy={save.isPending} onClick={() => save.mutate()} />
    </Stack>
  );
}

function Trash({ id }: { id: string }) {
  const client = useQueryClient();
  const trash = useQuery({
    queryKey: ['bucket-trash', id],
    queryFn: () => own<Deleted[]>('trash', { BucketID: id }),
  });
  const bring = useMutation({
    mutationFn: (since: number) =>
      own<{ Objects: number; Bytes: number }>('undelete', { BucketID: id, Since: since }),
    onSuccess: () =>
      Promise.all(['bucket-trash', 'buckets'].map((key) => client.invalidateQueries({ queryKey: [key] }))),
  });
  return (
    <Section title={t('Trash')} help={t('What was deleted and can be brought back, by the hour.')}>
      <Failure error={bring.error} />
      {bring.data && (
        <Alert color="teal" variant="light" role="status">
          {plural(bring.data.Objects, '{n} object is back: {size}', '{n} objects are back: {size}', {
            size: bytes(bring.data.Bytes),
          })}
        </Alert>
      )}
      <Loaded query={trash}>
        {(list) =>
          list.length === 0 ? (
            <Empty>{t('The trash is empty.')}</Empty>
          ) : (
            <div className="rows" role="region" aria-label={t('Trash')} tabIndex={0}>
              <Table verticalSpacing={5} miw={480}>
                <Table.Thead>
                  <Table.Tr>
                    <Table.Th>{t('Deleted')}</Table.Th>
                    <Table.Th ta="right">{t('Objects')}</Table.Th>
                    <Table.Th ta="right">{t('Snapshots')}</Table.Th>
                    <Table.Th ta="right">{t('Size')}</Table.Th>
                    <Table.Th>
                      <span className="unseen">{t('Bring back')}</span>
                    </Table.Th>
                  </Table.Tr>
                </Table.Thead>
                <Table.Tbody>
                  {[...list].reverse().map((hour) => (
                    <Table.Tr key={hour.Time}>
                      <Table.Td>
                        <Time unix={hour.Time} />
                      </Table.Td>
                      <Table.Td ta="right">{count(hour.Objects)}</Table.Td>
                      <Table.Td ta="right">{count(hour.Snapshots)}</Table.Td>
                      <Table.Td ta="right">{bytes(hour.Bytes)}</Table.Td>
                      <Table.Td ta="right">
                        <Button
                          size="compact-xs"
                          variant="subtle"
                          onClick={() => bring.mutate(hour.Time)}
                          loading={bring.isPending && bring.variables === hour.Time}
                        >
                          {t('Bring back since then')}
                        </Button>
                      </Table.Td>
                    </Table.Tr>
                  ))}
                </Table.Tbody>
              </Table>
            </div>
          )
        }
      </Loaded>
    </Section>
  );
}

export function BucketRules({ id, close }: { id: string; close: () => void }) {
  const rules = useQuery({
    queryKey: ['bucket-rules', id],
    queryFn: () => own<Rules>('rules', { BucketID: id }),
  });
  return (
    <Modal opened onClose={close} size="lg" title={t('Rules of the bucket')}>
      <Stack gap="lg">
        <Group gap="xs">
          <Text size="sm" c="dimmed" className="mono">
            {id}
          </Text>
        </Group>
        <Loaded query={rules}>{(stored) => <Form id={id} stored={stored} close={close} />}</Loaded>
        <Trash id={id} />
      </Stack>
    </Modal>
  );
}
