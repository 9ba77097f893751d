// One limit for Storage Vaults of several accounts.
import { Button, Group, Modal, Progress, Stack, Text } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { call } from '../../api/client';
import { quotasQuery, useProfiles } from '../../api/queries';
import type { SharedQuota } from '../../api/types';
import { type Column, DataTable } from '../../components/DataTable';
import { EntryActions } from '../../components/EntryActions';
import { Fields } from '../../components/Fields';
import { Plus } from '../../components/icons';
import { Actions, Failure, Loaded } from '../../components/parts';
import { t } from '../../i18n';
import { bytes, newId } from '../../lib/format';
import { useParam } from '../../lib/search';

type Known = { SharedStorageQuota: SharedQuota; SharedStorageQuotaHash: string; CurrentUsage: number };

/** How full a quota is, asked for where it is shown. */
function Use({ id }: { id: string }) {
  const use = useQuery({
    queryKey: ['quotas', id],
    queryFn: () => call<Known>('/api/v1/admin/squota/get-with-hash', { SharedStorageQuotaID: id }),
  });
  if (!use.data) return null;
  const { CurrentUsage, SharedStorageQuota } = use.data;
  const part = SharedStorageQuota.LimitBytes ? (100 * CurrentUsage) / SharedStorageQuota.LimitBytes : 0;
  return (
    <Group gap="xs" wrap="nowrap">
      <Progress
        value={part}
        w={90}
        color={part > 90 ? 'red' : part > 75 ? 'orange' : undefined}
        aria-label={t('Used space')}
      />
      <Text size="sm" span>
        {bytes(CurrentUsage)}
      </Text>
    </Group>
  );
}

function Editor({ id, first, close }: { id: string; first: SharedQuota; close: () => void }) {
  const client = useQueryClient();
  const [draft, setDraft] = useState(first);
  const save = useMutation({
    mutationFn: () =>
      call('/api/v1/admin/squota/set-with-hash', { SharedStorageQuotaID: id, SharedStorageQuota: draft }),
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: ['quotas'] });
      close();
    },
  });
  return (
    <Modal opened onClose={close} title={t('Shared quota')}>
      <Stack gap="sm">
        <Failure error={save.error} />
        <Fields
          doc={draft}
          change={setDraft}
          cols={1}
          fields={[
            { path: 'Description', label: t('Name'), required: true },
            { path: 'LimitBytes', label: t('Limit of all together'), kind: 'gib' },
          ]}
        />
        <Actions
          close={close}
          action={t('Save')}
          busy={save.isPending}
          disabled={!draft.Description}
          onClick={() => save.mutate()}
        />
      </Stack>
    </Modal>
  );
}

export function Quotas() {
  const quotas = useQuery(quotasQuery());
  const profiles = useProfiles();
  const client = useQueryClient();
  const [dialog, setDialog] = useParam('dialog', { keep: true });
  const users = (id: string) =>
    Object.values(profiles.data ?? {})
      .filter((p) => Object.values(p.Destinations).some((v) => v.StorageLimitID === id))
      .map((p) => p.Username);
  const columns: Column<[string, SharedQuota]>[] = [
    { key: 'name', label: t('Shared quota'), width: 240, value: ([id, q]) => q.Description || id },
    {
      key: 'limit',
      label: t('Limit'),
      width: 110,
      right: true,
      descending: true,
      value: ([, q]) => q.LimitBytes,
      cell: ([, q]) => bytes(q.LimitBytes),
    },
    {
      key: 'use',
      label: t('Used'),
      width: 210,
      live: true,
      value: () => '',
      cell: ([id]) => <Use id={id} />,
    },
    {
      key: 'users',
      label: t('Used by'),
      width: 260,
      value: ([id]) => users(id).join(', '),
      cell: ([id]) =>
        users(id).map((name) => (
          <Link key={name} to="/accounts/$username" params={{ username: name }} search={{ tab: 'vaults' }}>
            {name}{' '}
          </Link>
        )),
    },
    { key: 'id', label: t('ID'), width: 290, hidden: true, value: ([id]) => id },
    {
      key: 'actions',
      label: '',
      width: 170,
      right: true,
      value: () => '',
      cell: ([id]) => (
        <EntryActions
          change={() => setDialog(id)}
          which={id}
          title={t('Delete shared quota')}
          text={t('The vaults under it have no limit of it any more.')}
          run={async () => {
            await call('/api/v1/admin/squota/delete', { SharedStorageQuotaID: id });
            await client.invalidateQueries({ queryKey: ['quotas'] });
          }}
        />
      ),
    },
  ];
  return (
    <Loaded query={quotas}>
      {(all) => {
        const first =
          dialog === 'new' ? { Description: '', OrganizationID: '', LimitBytes: 1024 ** 4 } : all[dialog];
        return (
          <>
            {first && (
              <Editor
                key={dialog}
                id={dialog === 'new' ? newId() : dialog}
                first={first as SharedQuota}
                close={() => setDialog(null)}
              />
            )}
            <DataTable
              name="quotas"
              label={t('shared quotas')}
              rows={Object.entries(all)}
              columns={columns}
              id={([id]) => id}
              aside={
                <Button variant="default" leftSection={<Plus size={14} />} onClick={() => setDialog('new')}>
                  {t('Add shared quota')}
                </Button>
              }
              empty={t(
                'No shared quotas yet. One limits what several vaults hold together; a vault joins it on its own page.',
              )}
            />
          </>
        );
      }}
    </Loaded>
  );
}
