import { Button, Modal, MultiSelect, Stack, TextInput } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { type FormEvent, useMemo, useState } from 'react';
import { call } from '../api/client';
import { groupsQuery, useAccountsBy, useProfiles } from '../api/queries';
import type { UserGroup } from '../api/types';
import { type Column, DataTable } from '../components/DataTable';
import { EntryActions } from '../components/EntryActions';
import { Plus } from '../components/icons';
import { Actions, Failure, Loaded, Page, Time } from '../components/parts';
import { t } from '../i18n';
import { useParam } from '../lib/search';

function Editor({
  id,
  group,
  close,
}: {
  id: string | null;
  group: UserGroup | undefined;
  close: () => void;
}) {
  const client = useQueryClient();
  const profiles = useProfiles();
  const [name, setName] = useState(group?.Name ?? '');
  const before = useMemo(
    () =>
      Object.values(profiles.data ?? {})
        .filter((p) => id !== null && p.GroupID === id)
        .map((p) => p.Username),
    [profiles.data, id],
  );
  const [chosen, setChosen] = useState<string[] | null>(null);
  const members = chosen ?? before;
  const save = useMutation({
    mutationFn: async () => {
      let at = id;
      if (at === null || !group) {
        const made = await call<{ UserGroupID: string }>('/api/v1/admin/user-groups/new', { Name: name });
        at = made.UserGroupID;
      } else if (name !== group.Name) {
        await call('/api/v1/admin/user-groups/set', { GroupID: at, Group: { ...group, Name: name } });
      }
      if (chosen) await call('/api/v1/admin/user-groups/set-users-for-group', { GroupID: at, Users: chosen });
    },
    onSuccess: async () => {
      await Promise.all([
        client.invalidateQueries({ queryKey: ['groups'] }),
        client.invalidateQueries({ queryKey: ['profiles'] }),
      ]);
      close();
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    save.mutate();
  };
  return (
    <Modal opened onClose={close} title={group ? t('Change group') : t('Add group')}>
      <form onSubmit={submit}>
        <Stack gap="sm">
          <Failure error={save.error} />
          <TextInput
            label={t('Name')}
            required
            value={name}
            onChange={(e) => setName(e.currentTarget.value)}
            data-autofocus
          />
          <MultiSelect
            label={t('Accounts')}
            description={t('An account is in one group at most')}
            searchable
            limit={50}
            data={Object.keys(profiles.data ?? {})}
            value={members}
            onChange={setChosen}
          />
          <Actions close={close} action={t('Save')} busy={save.isPending} />
        </Stack>
      </form>
    </Modal>
  );
}

export function Groups() {
  const groups = useQuery(groupsQuery());
  const client = useQueryClient();
  const [dialog, setDialog] = useParam('dialog', { keep: true });
  const members = useAccountsBy('GroupID');
  const columns: Column<[string, UserGroup]>[] = [
    {
      key: 'name',
      label: t('Group'),
      width: 300,
      value: ([, g]) => g.Name,
      cell: ([id, g]) => (
        <Link to="/accounts" search={{ where: id }}>
          {g.Name}
        </Link>
      ),
    },
    {
      key: 'accounts',
      label: t('Accounts'),
      width: 110,
      right: true,
      descending: true,
      value: ([id]) => members.get(id) ?? 0,
    },
    {
      key: 'created',
      label: t('Created'),
      width: 140,
      value: ([, g]) => g.CreatedAt,
      cell: ([, g]) => <Time unix={g.CreatedAt} />,
    },
    { key: 'id', label: t('Group ID'), width: 290, hidden: true, value: ([id]) => id },
    {
      key: 'actions',
      label: '',
      width: 160,
      right: true,
      value: () => '',
      cell: ([id, g]) => (
        <EntryActions
          change={() => setDialog(id)}
          which={id}
          title={t('Delete group')}
          text={t("The accounts of '{name}' stay, without a group.", { name: g.Name })}
          run={async () => {
            await call('/api/v1/admin/user-groups/delete', { GroupID: id });
            await client.invalidateQueries({ queryKey: ['groups'] });
          }}
        />
      ),
    },
  ];
  return (
    <Page
      title={t('Groups')}
      aside={
        <Button onClick={() => setDialog('new')} leftSection={<Plus size={14} />}>
          {t('Add group')}
        </Button>
      }
    >
      {dialog && groups.data && (dialog === 'new' || groups.data[dialog]) && (
        <Editor
          key={dialog}
          id={dialog === 'new' ? null : dialog}
          group={groups.data[dialog]}
          close={() => setDialog(null)}
        />
      )}
      <Loaded query={groups}>
        {(data) => (
          <DataTable
            name="groups"
            label={t('groups')}
            rows={Object.entries(data)}
            columns={columns}
            id={([id]) => id}
            empty={t('No groups yet. They sort accounts, such as by customer or branch.')}
          />
        )}
      </Loaded>
    </Page>
  );
}
