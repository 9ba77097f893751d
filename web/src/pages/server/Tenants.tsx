import { Button, Modal, Stack, TagsInput, TextInput } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, useNavigate, useRouter } from '@tanstack/react-router';
import { type FormEvent, useState } from 'react';
import { call } from '../../api/client';
import { adminsQuery, tenantsQuery, useAccountsBy } from '../../api/queries';
import type { Organization } from '../../api/types';
import { DangerButton } from '../../components/Danger';
import { type Column, DataTable } from '../../components/DataTable';
import { Plus } from '../../components/icons';
import { Actions, Failure, Loaded, Page, Tag } from '../../components/parts';
import { t } from '../../i18n';
import { useParam } from '../../lib/search';

function Add({ close }: { close: () => void }) {
  const client = useQueryClient();
  const navigate = useNavigate();
  const [name, setName] = useState('');
  const [hosts, setHosts] = useState<string[]>([]);
  const add = useMutation({
    mutationFn: () =>
      call<{ ID: string }>('/api/v1/admin/organization/set', { Organization: { Name: name, Hosts: hosts } }),
    onSuccess: async (made) => {
      await client.invalidateQueries({ queryKey: ['tenants'] });
      navigate({ to: '/tenants/$id', params: { id: made.ID } });
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    add.mutate();
  };
  return (
    <Modal opened onClose={close} title={t('Add tenant')}>
      <form onSubmit={submit}>
        <Stack gap="sm">
          <Failure error={add.error} />
          <TextInput
            label={t('Name')}
            required
            value={name}
            onChange={(e) => setName(e.currentTarget.value)}
            data-autofocus
          />
          <TagsInput
            label={t('Host names')}
            description={t('Under which its people reach this server, such as backup.example.org')}
            value={hosts}
            onChange={setHosts}
            acceptValueOnBlur
          />
          <Actions close={close} action={t('Add')} busy={add.isPending} />
        </Stack>
      </form>
    </Modal>
  );
}

export function Tenants() {
  const tenants = useQuery(tenantsQuery());
  const admins = useQuery(adminsQuery());
  const client = useQueryClient();
  const [dialog, setDialog] = useParam('dialog', { keep: true });
  const { history } = useRouter();
  const users = useAccountsBy('OrganizationID');
  const columns: Column<[string, Organization]>[] = [
    {
      key: 'name',
      label: t('Tenant'),
      width: 240,
      value: ([, o]) => o.Name,
      cell: ([id, o]) => (
        <Link to="/tenants/$id" params={{ id }}>
          {o.Name}
        </Link>
      ),
    },
    { key: 'hosts', label: t('Host names'), width: 260, value: ([, o]) => (o.Hosts ?? []).join(', ') },
    {
      key: 'state',
      label: t('State'),
      width: 120,
      value: ([, o]) => (o.IsSuspended ? 1 : 0),
      cell: ([, o]) =>
        o.IsSuspended ? <Tag tone="bad">{t('Suspended')}</Tag> : <Tag tone="good">{t('Active')}</Tag>,
    },
    {
      key: 'accounts',
      label: t('Accounts'),
      width: 100,
      right: true,
      descending: true,
      value: ([id]) => users.get(id) ?? 0,
      cell: ([id]) => (
        <Link to="/accounts" search={{ where: id }}>
          {users.get(id) ?? 0}
        </Link>
      ),
    },
    {
      key: 'admins',
      label: t('Administrators'),
      width: 120,
      right: true,
      value: ([id]) => (admins.data ?? []).filter((a) => a.OrganizationID === id).length,
    },
    { key: 'id', label: t('Tenant ID'), width: 290, hidden: true, value: ([id]) => id },
    {
      key: 'actions',
      label: '',
      width: 100,
      right: true,
      value: () => '',
      cell: ([id, o]) => (
        <DangerButton
          label={t('Delete')}
          dialog="delete"
          which={id}
          title={t('Delete tenant')}
          text={t(
            'The tenant is deleted with all its accounts, their jobs and the keys of their vaults. This can not be undone.',
          )}
          word={o.Name}
          run={async () => {
            await call('/api/v1/admin/organization/delete', { OrganizationID: id });
            await Promise.all(
              ['tenants', 'profiles'].map((key) => client.invalidateQueries({ queryKey: [key] })),
            );
          }}
        />
      ),
    },
  ];
  return (
    <Page
      title={t('Tenants')}
      aside={
        <Button onClick={() => setDialog('new')} leftSection={<Plus size={14} />}>
          {t('Add tenant')}
        </Button>
      }
    >
      {dialog === 'new' && <Add close={() => setDialog(null)} />}
      <Loaded query={tenants}>
        {(data) => (
          <DataTable
            name="tenants"
            label={t('tenants')}
            rows={Object.entries(data)}
            columns={columns}
            id={([id]) => id}
            open={([id]) => history.push(`/tenants/${id}`)}
            empty={t(
              'No tenants yet. A tenant has accounts, administrators and branding of its own, under its own host name.',
            )}
          />
        )}
      </Loaded>
    </Page>
  );
}
