import {
  ActionIcon,
  Alert,
  Button,
  Group,
  Menu,
  Modal,
  Progress,
  Select,
  Stack,
  Tabs,
  Text,
} from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, useNavigate } from '@tanstack/react-router';
import { type ComponentType, useMemo, useState } from 'react';
import { call } from '../api/client';
import { freeSpaceQuery, templatesQuery, useBuckets, useProfiles, useTopLevel } from '../api/queries';
import type { Bucket, StorageTemplate } from '../api/types';
import { DangerDialog } from '../components/Danger';
import { type Column, DataTable } from '../components/DataTable';
import { EntryActions } from '../components/EntryActions';
import { type Field, Fields } from '../components/Fields';
import { Dots, Plus } from '../components/icons';
import { Actions, Command, Failure, Loaded, Page, Tag, Time } from '../components/parts';
import { t } from '../i18n';
import { bytes, newId } from '../lib/format';
import { useDialogOf, useParam, useTabInSight } from '../lib/search';
import { BucketRules } from './storage/BucketRules';
import { Quotas } from './storage/Quotas';

type NewBucket = { NewBucketID: string; NewBucketKey: string };

function Space() {
  const topLevel = useTopLevel();
  const space = useQuery({ ...freeSpaceQuery(), enabled: topLevel === true, retry: false });
  const s = space.data;
  if (!s || s.Unlimited) return null;
  return (
    <div className="card">
      <Group justify="space-between" mb={6}>
        <Text size="sm">{t('{size} free', { size: bytes(s.AvailableBytes) })}</Text>
        <Text size="sm" c="dimmed">
          {t('{n} % used', { n: s.UsedPercent.toFixed(1) })}
        </Text>
      </Group>
      <Progress
        value={s.UsedPercent}
        color={s.UsedPercent > 90 ? 'red' : s.UsedPercent > 75 ? 'orange' : undefined}
        aria-label={t('Used space')}
      />
    </div>
  );
}

function Buckets() {
  const buckets = useBuckets();
  const profiles = useProfiles();
  const client = useQueryClient();
  const [dialog, setDialog] = useParam('dialog', { keep: true });
  const [doomed, setDoomed] = useDialogOf('delete-bucket');
  const refresh = () => client.invalidateQueries({ queryKey: ['buckets'] });
  const add = useMutation({
    mutationFn: () => call<NewBucket>('/api/v1/admin/storage/register-bucket'),
    onSuccess: refresh,
  });
  const measure = useMutation({
    mutationFn: (id: string) =>
      call('/api/v1/admin/storage/bucket-properties', {
        BucketID: id,
        AfterTimestamp: Math.floor(Date.now() / 1000),
      }),
    onSuccess: refresh,
  });
  const users = useMemo(() => {
    const out = new Map<string, string[]>();
    for (const p of Object.values(profiles.data ?? {})) {
      for (const v of Object.values(p.Destinations)) {
        if (v.DestinationType !== 1003 || !v.CometBucket) continue;
        out.set(v.CometBucket, [...(out.get(v.CometBucket) ?? []), p.Username]);
      }
    }
    return out;
  }, [profiles.data]);
  const columns: Column<[string, Bucket]>[] = [
    {
      key: 'id',
      label: t('Bucket'),
      width: 330,
      value: ([id]) => id,
      cell: ([id]) => <span className="mono">{id}</span>,
    },
    {
      key: 'users',
      label: t('Used by'),
      width: 200,
      value: ([id]) => (users.get(id) ?? []).join(', '),
      cell: ([id]) => {
        const names = users.get(id) ?? [];
        if (names.length === 0) return <Tag tone="quiet">{t('Nobody')}</Tag>;
        return names.map((name) => (
          <Link key={name} to="/accounts/$username" params={{ username: name }} search={{ tab: 'vaults' }}>
            {name}{' '}
          </Link>
        ));
      },
    },
    {
      key: 'size',
      label: t('Size'),
      width: 110,
      right: true,
      descending: true,
      value: ([, b]) => b.Size.Size,
      cell: ([, b]) => bytes(b.Size.Size),
    },
    {
      key: 'measured',
      label: t('Measured'),
      width: 130,
      value: ([, b]) => b.Size.MeasureCompleted,
      cell: ([, b]) => <Time unix={b.Size.MeasureCompleted} />,
    },
    {
      key: 'created',
      label: t('Created'),
      width: 130,
      descending: true,
      value: ([, b]) => b.CreateTime,
      cell: ([, b]) => <Time unix={b.CreateTime} />,
    },
    {
      key: 'actions',
      label: '',
      width: 120,
      right: true,
      value: () => '',
      cell: ([id]) => (
        <Group gap={4} justify="flex-end" wrap="nowrap">
          <Button size="compact-sm" variant="subtle" onClick={() => setDialog(id)}>
            {t('Rules')}
          </Button>
          <Menu position="bottom-end">
            <Menu.Target>
              <ActionIcon aria-label={t('More for {name}', { name: id })}>
                <Dots size={16} />
              </ActionIcon>
            </Menu.Target>
            <Menu.Dropdown>
              <Menu.Item onClick={() => measure.mutate(id)}>{t('Measure')}</Menu.Item>
              <Menu.Item color="red" onClick={() => setDoomed(id)}>
                {t('Delete')}
              </Menu.Item>
            </Menu.Dropdown>
          </Menu>
        </Group>
      ),
    },
  ];
  return (
    <Stack gap="md">
      <Space />
      {buckets.data?.[doomed] && (
        <DangerDialog
          opened
          close={() => setDoomed('')}
          title={t('Delete bucket')}
          action={t('Delete')}
          text={
            (users.get(doomed) ?? []).length > 0
              ? t(
                  'All data in it is deleted at once, though {names} still uses it. This can not be undone.',
                  {
                    names: (users.get(doomed) ?? []).join(', '),
                  },
                )
              : t('All data in it is deleted at once. This can not be undone.')
          }
          word={doomed.slice(0, 8)}
          run={async () => {
            await call('/api/v1/admin/storage/delete-bucket', { BucketID: doomed });
            await refresh();
          }}
        />
      )}
      {buckets.data?.[dialog] && <BucketRules key={dialog} id={dialog} close={() => setDialog(null)} />}
      <Failure error={add.error ?? measure.error} />
      <Modal opened={add.data !== undefined} onClose={() => add.reset()} title={t('A new bucket')}>
        <Stack gap="sm">
          <Alert color="orange" variant="light">
            {t('The key is shown only now.')}
          </Alert>
          <Command label={t('Copy the bucket')}>{add.data?.NewBucketID ?? ''}</Command>
          <Command label={t('Copy the key')}>{add.data?.NewBucketKey ?? ''}</Command>
          <Group justify="flex-end">
            <Button onClick={() => add.reset()}>{t('Done')}</Button>
          </Group>
        </Stack>
      </Modal>
      <Loaded query={buckets}>
        {(data) => (
          <DataTable
            name="buckets"
            label={t('buckets')}
            rows={Object.entries(data)}
            columns={columns}
            id={([id]) => id}
            aside={
              <Button variant="default" onClick={() => add.mutate()} loading={add.isPending}>
                {t('Add bucket')}
              </Button>
            }
            empty={t(
              'No buckets yet. A bucket holds the data of one Storage Vault on this server; adding a vault on the page of an account makes one.',
            )}
          />
        )}
      </Loaded>
    </Stack>
  );
}

const kinds = () => [
  { value: 'comet', label: t('Storage Role of this or another server') },
  { value: 's3', label: t('S3-compatible with IAM') },
  { value: 'aws', label: 'Amazon AWS' },
  { value: 'wasabi', label: 'Wasabi' },
  { value: 'b2', label: 'Backblaze B2' },
  { value: 'storj', label: 'Storj' },
  { value: 'idrivee2', label: 'IDrive e2' },
  { value: 'impossiblecloud-iam', label: 'Impossible Cloud' },
  { value: 'custom', label: t('A program of your own') },
];

function kindFields(type: string): Field[] {
  const keyed = (at: string): Field[] => [
    { path: `${at}.MasterBucket`, label: t('Bucket') },
    { path: `${at}.AccessKey`, label: t('Access key') },
    { path: `${at}.SecretKey`, label: t('Secret key'), kind: 'secret' },
    { path: `${at}.UseObjectLock`, label: t('Object lock'), kind: 'switch' },
    { path: `${at}.ObjectLockDays`, label: t('Locked for days'), kind: 'number' },
    {
      path: `${at}.RemoveDeleted`,
      label: t('Delete for good where the bucket keeps versions'),
      kind: 'switch',
    },
  ];
  switch (type) {
    case 'comet':
    case 'cometstorage':
      return [
        { path: 'RemoteAddress', label: t('Server'), help: t('Empty: this one') },
        { path: 'Username', label: t('Administrator there') },
        { path: 'Password', label: t('Password'), kind: 'secret' },
      ];
    case 'aws':
      return keyed('AWS');
    case 'wasabi':
      return keyed('Wasabi');
    case 's3':
    case 'idrivee2':
      return [
        { path: 'S3.S3Endpoint', label: t('Server'), help: t('Such as s3.example.org') },
        { path: 'S3.IAMEndpoint', label: t('Address of IAM') },
        { path: 'S3.Region', label: t('Region') },
        { path: 'S3.Prefix', label: t('Folder inside the bucket') },
        ...keyed('S3'),
      ];
    case 'b2':
      return [
        { path: 'B2.MasterBucket', label: t('Bucket') },
        { path: 'B2.KeyID', label: t('Access key') },
        { path: 'B2.AppKey', label: t('Secret key'), kind: 'secret' },
      ];
    case 'custom':
      return [{ path: 'Custom.URL', label: t('Address that makes the place'), wide: true }];
    default:
      return [];
  }
}

function TemplateDialog({
  first,
  isNew,
  save,
  close,
}: {
  first: StorageTemplate;
  isNew: boolean;
  save: (next: StorageTemplate) => Promise<unknown>;
  close: () => void;
}) {
  const [draft, setDraft] = useState(first);
  const saving = useMutation({ mutationFn: () => save(draft), onSuccess: close });
  const test = useMutation({
    mutationFn: () => call('/api/v1/admin/meta/remote-storage-vault/test', { TemplateOptions: draft }),
  });
  const part = { doc: draft, change: setDraft };
  return (
    <Modal
      opened
      onClose={close}
      size="lg"
      title={isNew ? t('Add storage template') : t('Change storage template')}
    >
      <Stack gap="sm">
        <Failure error={saving.error ?? test.error} />
        <Fields {...part} fields={[{ path: 'Description', label: t('Name'), required: true }]} />
        <Select
          label={t('Kind')}
          data={kinds()}
          value={draft.Type}
          onChange={(next) => setDraft({ ...draft, Type: next ?? 'comet' })}
        />
        <Fields {...part} fields={kindFields(draft.Type)} />
        <Fields
          {...part}
          fields={[
            { path: 'Default', label: t('Proposed first'), kind: 'switch' },
            { path: 'RebrandStorage', label: t('Hide the real kind from users'), kind: 'switch' },
            { path: 'StorageLimitEnabled', label: t('Limit the stored data'), kind: 'switch' },
            { path: 'StorageLimitBytes', label: t('Limit'), kind: 'gib' },
          ]}
        />
        <Group gap="xs">
          <Button variant="default" onClick={() => test.mutate()} loading={test.isPending}>
            {t('Test')}
          </Button>
          {test.isSuccess && (
            <Text size="sm" c="teal" role="status">
              {t('It works.')}
            </Text>
          )}
        </Group>
        <Actions
          close={close}
          action={t('Save')}
          busy={saving.isPending}
          disabled={!draft.Description}
          onClick={() => saving.mutate()}
        />
      </Stack>
    </Modal>
  );
}

function Templates() {
  const templates = useQuery(templatesQuery());
  const client = useQueryClient();
  const [dialog, setDialog] = useParam('dialog', { keep: true });
  const list = templates.data ?? [];
  const store = async (next: StorageTemplate[]) => {
    await call('/api/v1/admin/meta/remote-storage-vault/set', { RemoteStorageOptions: next });
    await Promise.all(
      ['templates', 'providers', 'config'].map((key) => client.invalidateQueries({ queryKey: [key] })),
    );
  };
  const columns: Column<StorageTemplate>[] = [
    { key: 'name', label: t('Storage template'), width: 260, value: (x) => x.Description || x.ID },
    {
      key: 'kind',
      label: t('Kind'),
      width: 260,
      value: (x) => kinds().find((k) => k.value === x.Type)?.label ?? x.Type,
    },
    {
      key: 'limit',
      label: t('Limit'),
      width: 110,
      right: true,
      value: (x) => (x.StorageLimitEnabled ? x.StorageLimitBytes : 0),
      cell: (x) => (x.StorageLimitEnabled ? bytes(x.StorageLimitBytes) : '–'),
    },
    {
      key: 'default',
      label: t('Proposed first'),
      width: 130,
      value: (x) => (x.Default ? 1 : 0),
      cell: (x) => x.Default && <Tag tone="busy">{t('Default')}</Tag>,
    },
    { key: 'id', label: t('Template ID'), width: 290, hidden: true, value: (x) => x.ID },
    {
      key: 'actions',
      label: '',
      width: 160,
      right: true,
      value: () => '',
      cell: (x) => (
        <EntryActions
          change={() => setDialog(x.ID)}
          which={x.ID}
          title={t('Delete storage template')}
          text={t('Vaults made from it stay as they are.')}
          run={() => store(list.filter((other) => other.ID !== x.ID))}
        />
      ),
    },
  ];
  const first =
    dialog === 'new'
      ? ({ ID: newId(), Type: 'comet', Description: '', RemoteAddress: '' } as unknown as StorageTemplate)
      : list.find((x) => x.ID === dialog);
  return (
    <>
      {first && (
        <TemplateDialog
          key={dialog}
          first={first}
          isNew={dialog === 'new'}
          close={() => setDialog(null)}
          save={(next) =>
            store(dialog === 'new' ? [...list, next] : list.map((old) => (old.ID === next.ID ? next : old)))
          }
        />
      )}
      <Loaded query={templates}>
        {(data) => (
          <DataTable
            name="templates"
            label={t('storage templates')}
            rows={data}
            columns={columns}
            id={(x) => x.ID}
            aside={
              <Button variant="default" leftSection={<Plus size={14} />} onClick={() => setDialog('new')}>
                {t('Add storage template')}
              </Button>
            }
            empty={t(
              'No storage templates yet. By a template accounts get a ready Storage Vault with one click.',
            )}
          />
        )}
      </Loaded>
    </>
  );
}

export function Storage() {
  const [wanted] = useParam('tab');
  const navigate = useNavigate();
  useTabInSight(wanted);
  const tabs: [string, string, ComponentType][] = [
    ['buckets', t('Buckets'), Buckets],
    ['templates', t('Storage templates'), Templates],
    ['quotas', t('Shared quotas'), Quotas],
  ];
  const tab = tabs.some(([key]) => key === wanted) ? wanted : 'buckets';
  return (
    <Page title={t('Storage')}>
      <Tabs
        value={tab}
        onChange={(next) => navigate({ to: '.', search: next && next !== 'buckets' ? { tab: next } : {} })}
        keepMounted={false}
      >
        <Tabs.List className="tabs" mb="sm">
          {tabs.map(([key, label]) => (
            <Tabs.Tab key={key} value={key}>
              {label}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        {tabs.map(([key, , Tab]) => (
          <Tabs.Panel key={key} value={key}>
            <Tab />
          </Tabs.Panel>
        ))}
      </Tabs>
    </Page>
  );
}
