import { Stack } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, useRouter } from '@tanstack/react-router';
import { call } from '../../api/client';
import { policiesQuery, tenantsQuery, useAccountsBy, useTopLevel } from '../../api/queries';
import type { GroupPolicy } from '../../api/types';
import { DangerButton } from '../../components/Danger';
import { type Column, DataTable } from '../../components/DataTable';
import { Plus } from '../../components/icons';
import { ButtonLink } from '../../components/links';
import { Loaded, Page, Tag, Time } from '../../components/parts';
import { plural, t } from '../../i18n';

export function Policies() {
  const policies = useQuery(policiesQuery());
  const topLevel = useTopLevel();
  const tenants = useQuery({ ...tenantsQuery(), enabled: topLevel === true });
  const client = useQueryClient();
  const { history } = useRouter();
  const users = useAccountsBy('PolicyID');
  const columns: Column<[string, GroupPolicy]>[] = [
    {
      key: 'name',
      label: t('Policy'),
      width: 280,
      value: ([id, p]) => p.Description || id,
      cell: ([id, p]) => (
        <Link to="/policies/$id" params={{ id }}>
          {p.Description || id}
        </Link>
      ),
    },
    {
      key: 'default',
      label: t('For new accounts'),
      width: 140,
      value: ([, p]) => (p.DefaultUserPolicy ? 1 : 0),
      cell: ([, p]) => p.DefaultUserPolicy && <Tag tone="busy">{t('Default')}</Tag>,
    },
    {
      key: 'accounts',
      label: t('Accounts'),
      width: 110,
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
      key: 'tenant',
      label: t('Tenant'),
      width: 160,
      hidden: !tenants.data || Object.keys(tenants.data).length === 0,
      value: ([, p]) => tenants.data?.[p.OrganizationID]?.Name ?? '',
    },
    {
      key: 'changed',
      label: t('Changed'),
      width: 140,
      descending: true,
      value: ([, p]) => p.ModifiedDate,
      cell: ([, p]) => <Time unix={p.ModifiedDate} />,
    },
    { key: 'id', label: t('Policy ID'), width: 290, hidden: true, value: ([id]) => id },
    {
      key: 'actions',
      label: '',
      width: 100,
      right: true,
      value: () => '',
      cell: ([id, p]) => (
        <DangerButton
          label={t('Delete')}
          dialog="delete"
          which={id}
          title={t('Delete policy')}
          text={plural(
            users.get(id) ?? 0,
            'The one account under it keeps its present settings as its own.',
            'The {n} accounts under it keep their present settings as their own.',
          )}
          word={p.Description || id}
          run={async () => {
            await call('/api/v1/admin/policies/delete', { PolicyID: id });
            await client.invalidateQueries({ queryKey: ['policies'] });
          }}
        />
      ),
    },
  ];
  const add = (
    <ButtonLink to="/policies/$id" params={{ id: 'new' }} leftSection={<Plus size={14} />}>
      {t('Add policy')}
    </ButtonLink>
  );
  return (
    <Page title={t('Policies')} aside={add}>
      <Loaded query={policies}>
        {(data) => (
          <DataTable
            name="policies"
            label={t('policies')}
            rows={Object.entries(data)}
            columns={columns}
            id={([id]) => id}
            open={([id]) => history.push(`/policies/${id}`)}
            empty={
              <Stack gap="sm" align="center">
                {t(
                  'No policies yet. A policy gives many accounts the same defaults and limits, and keeps them so.',
                )}
              </Stack>
            }
          />
        )}
      </Loaded>
    </Page>
  );
}
