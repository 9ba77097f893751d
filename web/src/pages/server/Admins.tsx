import { Button, Modal, PasswordInput, Select, Stack, TextInput } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, useRouter } from '@tanstack/react-router';
import { type FormEvent, useState } from 'react';
import { call } from '../../api/client';
import { adminsQuery, tenantsQuery } from '../../api/queries';
import { session } from '../../api/session';
import type { Admin } from '../../api/types';
import { DangerButton } from '../../components/Danger';
import { type Column, DataTable } from '../../components/DataTable';
import { Plus } from '../../components/icons';
import { Actions, Failure, Loaded, Page, Tag } from '../../components/parts';
import { t } from '../../i18n';
import { newPassword } from '../../lib/format';
import { useParam } from '../../lib/search';

function Add({ close }: { close: () => void }) {
  const client = useQueryClient();
  const tenants = useQuery(tenantsQuery());
  const [name, setName] = useState('');
  const [password, setPassword] = useState('');
  const [tenant, setTenant] = useState('');
  const add = useMutation({
    mutationFn: () =>
      call('/api/v1/admin/admin-user/new', {
        TargetUser: name,
        TargetPassword: password,
        TargetOrgID: tenant || undefined,
      }),
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: ['admins'] });
      close();
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    add.mutate();
  };
  return (
    <Modal opened onClose={close} title={t('Add administrator')}>
      <form onSubmit={submit}>
        <Stack gap="sm">
          <Failure error={add.error} />
          <TextInput
            label={t('User name')}
            required
            value={name}
            onChange={(e) => setName(e.currentTarget.value)}
            data-autofocus
          />
          <PasswordInput
            label={t('Password')}
            required
            autoComplete="new-password"
            value={password}
            onChange={(e) => setPassword(e.currentTarget.value)}
          />
          <Button
            variant="subtle"
            size="compact-xs"
            w="fit-content"
            onClick={() => setPassword(newPassword())}
          >
            {t('Make one up')}
          </Button>
          <Select
            label={t('Tenant')}
            value={tenant}
            onChange={(next) => setTenant(next ?? '')}
            data={[
              { value: '', label: t('None: the top level') },
              ...Object.entries(tenants.data ?? {}).map(([value, o]) => ({ value, label: o.Name })),
            ]}
          />
          <Actions close={close} action={t('Add')} busy={add.isPending} />
        </Stack>
      </form>
    </Modal>
  );
}

/** What somebody needs to sign in. */
function factors(a: Admin): string {
  const ways = [
    a.AllowPasswordLogin ? t('Password') : '',
    a.AllowPasswordAndTOTPLogin ? t('Password and code') : '',
    a.AllowPasswordAndWebAuthnLogin ? t('Password and security key') : '',
    a.ExternalAuthenticationSource ? t('External log-in') : '',
  ];
  return ways.filter(Boolean).join(', ');
}

/** Names are their own in each tenant. */
const idOf = (a: Admin) => `${a.OrganizationID}/${a.Username}`;

export function Admins() {
  const admins = useQuery(adminsQuery());
  const tenants = useQuery(tenantsQuery());
  const client = useQueryClient();
  const [dialog, setDialog] = useParam('dialog', { keep: true });
  const { history } = useRouter();
  const own = session()?.username;
  const columns: Column<Admin>[] = [
    {
      key: 'name',
      label: t('Administrator'),
      width: 220,
      value: (a) => a.Username,
      cell: (a) => (
        <Link
          to="/admins/$name"
          params={{ name: a.Username }}
          search={a.OrganizationID ? { where: a.OrganizationID } : {}}
        >
          {a.Username}
        </Link>
      ),
    },
    {
      key: 'tenant',
      label: t('Tenant'),
      width: 180,
      value: (a) => (a.OrganizationID ? (tenants.data?.[a.OrganizationID]?.Name ?? a.OrganizationID) : ''),
    },
    { key: 'factors', label: t('Signs in with'), width: 300, value: factors },
    {
      key: 'second',
      label: t('Second factor'),
      width: 150,
      value: (a) => (a.AllowPasswordLogin ? 0 : 1),
      cell: (a) =>
        a.AllowPasswordLogin ? (
          <Tag tone="warn">{t('Not required')}</Tag>
        ) : (
          <Tag tone="good">{t('Required')}</Tag>
        ),
    },
    {
      key: 'actions',
      label: '',
      width: 110,
      right: true,
      value: () => '',
      cell: (a) =>
        a.Username !== own && (
          <DangerButton
            label={t('Delete')}
            dialog="delete"
            which={idOf(a)}
            title={t('Delete administrator')}
            text={t('The person can not sign in any more. What the person made stays.')}
            word={a.Username}
            run={async () => {
              await call('/api/v1/admin/admin-user/delete', { TargetUser: a.Username });
              await client.invalidateQueries({ queryKey: ['admins'] });
            }}
          />
        ),
    },
  ];
  return (
    <Page
      title={t('Administrators')}
      aside={
        <Button onClick={() => setDialog('new')} leftSection={<Plus size={14} />}>
          {t('Add administrator')}
        </Button>
      }
    >
      {dialog === 'new' && <Add close={() => setDialog(null)} />}
      <Loaded query={admins}>
        {(data) => (
          <DataTable
            name="admins"
            label={t('administrators')}
            rows={data}
            columns={columns}
            id={idOf}
            open={(a) => history.push(`/admins/${encodeURIComponent(a.Username)}`)}
            empty={t('No administrators.')}
          />
        )}
      </Loaded>
    </Page>
  );
}
