// The lists of an account's page: items, vaults, devices.
import { ActionIcon, Button, Group, Menu, Modal, Stack, Text } from '@mantine/core';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { Link, useNavigate } from '@tanstack/react-router';
import { call } from '../../api/client';
import { base, isAdmin, useEditProfile } from '../../api/queries';
import type { Item, Profile, Vault } from '../../api/types';
import { DangerDialog } from '../../components/Danger';
import { type Column, DataTable } from '../../components/DataTable';
import { Dots, Plus } from '../../components/icons';
import { ButtonLink, MenuLink } from '../../components/links';
import { Command, Failure, OnlineTag, StatusBadge, Time } from '../../components/parts';
import { t } from '../../i18n';
import { bytes } from '../../lib/format';
import { engineName, valuesOf } from '../../lib/items';
import { retentionText, ruleText } from '../../lib/schedule';
import { useDialog, useDialogOf } from '../../lib/search';
import { vaultKind, vaultPlace } from '../../lib/vaults';
import { BackUp } from './BackUp';
import { anyConnection, type Connections, connectionsOf } from './connections';

type Props = { profile: Profile; connections: Connections };

/** What else can be done to a row. */
function More({ label, children }: { label: string; children: React.ReactNode }) {
  return (
    <Menu position="bottom-end">
      <Menu.Target>
        <ActionIcon aria-label={label}>
          <Dots size={16} />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>{children}</Menu.Dropdown>
    </Menu>
  );
}

export function Items({ profile, connections }: Props) {
  const { Username: username, Policy: policy } = profile;
  const edit = useEditProfile(username);
  const navigate = useNavigate();
  const [removing, setRemoving] = useDialogOf('delete-item');
  const rulesOf = (id: string) => Object.values(profile.BackupRules).filter((r) => r.Source === id);
  const admin = isAdmin();
  /** Where an item's backups lie, as far as its rules tell. */
  const vaultOf = (id: string) => rulesOf(id)[0]?.Destination ?? Object.keys(profile.Destinations)[0] ?? '';
  const columns: Column<[string, Item]>[] = [
    {
      key: 'name',
      label: t('Protected Item'),
      width: 220,
      value: ([id, item]) => item.Description || id,
      cell: ([id, item]) => (
        <Link to="/accounts/$username/items/$item" params={{ username, item: id }}>
          {item.Description || id}
        </Link>
      ),
    },
    { key: 'kind', label: t('Kind'), width: 130, value: ([, item]) => engineName(item.Engine) },
    {
      key: 'device',
      label: t('Device'),
      width: 130,
      value: ([, item]) => profile.Devices[item.OwnerDevice]?.FriendlyName || item.OwnerDevice.slice(0, 12),
    },
    {
      key: 'what',
      label: t('What'),
      width: 240,
      hidden: true,
      value: ([, item]) =>
        valuesOf(item.EngineProps, 'INCLUDE').join(', ') || (item.EngineProps.COMMAND ?? ''),
    },
    {
      key: 'schedule',
      label: t('Schedule'),
      width: 180,
      value: ([id]) => {
        const rules = rulesOf(id);
        return rules.length === 0 ? t('by hand') : rules.map(ruleText).join('; ');
      },
    },
    {
      key: 'last',
      label: t('Last backup'),
      width: 200,
      descending: true,
      value: ([, item]) => item.Statistics?.LastBackupJob?.StartTime ?? 0,
      cell: ([, item]) => {
        const last = item.Statistics?.LastBackupJob;
        if (!last?.StartTime)
          return (
            <Text span c="dimmed" inherit>
              {t('never')}
            </Text>
          );
        return (
          <Group gap="xs" wrap="nowrap">
            <StatusBadge status={last.Status} />
            <Time unix={last.StartTime} />
          </Group>
        );
      },
    },
    {
      key: 'actions',
      label: '',
      width: 145,
      right: true,
      value: () => '',
      cell: ([id, item]) => (
        <Group gap={4} justify="flex-end" wrap="nowrap">
          <BackUp profile={profile} item={id} connections={connections} />
          <More label={t('More for {name}', { name: item.Description || id })}>
            <MenuLink
              to="/accounts/$username/items/$item"
              params={{ username, item: id }}
              disabled={!admin && policy?.PreventEditProtectedItem}
            >
              {t('Edit')}
            </MenuLink>
            {vaultOf(id) && (
              <MenuLink
                to="/accounts/$username/vaults/$vault"
                params={{ username, vault: vaultOf(id) }}
                search={{ where: id }}
              >
                {t('Browse and restore')}
              </MenuLink>
            )}
            <MenuLink to="/jobs" search={{ where: id }}>
              {t('Its jobs')}
            </MenuLink>
            <Menu.Item
              color="red"
              disabled={!admin && policy?.PreventDeleteProtectedItem}
              onClick={() => setRemoving(id)}
            >
              {t('Delete')}
            </Menu.Item>
          </More>
        </Group>
      ),
    },
  ];
  const add = (
    <Button
      leftSection={<Plus size={14} />}
      disabled={!admin && policy?.PreventNewProtectedItem}
      onClick={() => navigate({ to: '/accounts/$username/items/$item', params: { username, item: 'new' } })}
    >
      {t('Add Protected Item')}
    </Button>
  );
  const name = profile.Sources[removing]?.Description || '';
  return (
    <>
      <DataTable
        name="items"
        label={t('Protected Items')}
        rows={Object.entries(profile.Sources)}
        columns={columns}
        id={([id]) => id}
        aside={add}
        empty={
          <Stack gap="sm" align="center">
            {t('No Protected Items yet. They say what a device backs up, when, and to which vault.')}
          </Stack>
        }
      />
      <DangerDialog
        opened={profile.Sources[removing] !== undefined}
        close={() => setRemoving('')}
        title={t('Delete Protected Item')}
        text={t("'{name}' and its rules are deleted. Its backups stay until retention takes them.", { name })}
        action={t('Delete')}
        run={() =>
          edit.mutateAsync((p) => {
            delete p.Sources[removing];
            for (const [key, rule] of Object.entries(p.BackupRules)) {
              if (rule.Source === removing) delete p.BackupRules[key];
            }
          })
        }
      />
    </>
  );
}

const size = (v: Vault) => v.Statistics?.ClientProvidedSize?.Size ?? 0;

export function Vaults({ profile, connections }: Props) {
  const { Username: username, Policy: policy } = profile;
  const navigate = useNavigate();
  const edit = useEditProfile(username);
  const [removing, setRemoving] = useDialogOf('delete-vault');
  const target = anyConnection(connections, username);
  const run = useMutation({
    mutationFn: ({ what, vault }: { what: string; vault: string }) =>
      call<{ JobID?: string }>(`/api/v1/admin/dispatcher/${what}`, {
        TargetID: target ?? '',
        Destination: vault,
      }),
    onSuccess: () => navigate({ to: '/jobs' }),
  });
  const admin = isAdmin();
  const columns: Column<[string, Vault]>[] = [
    {
      key: 'name',
      label: t('Storage Vault'),
      width: 180,
      value: ([id, v]) => v.Description || id,
      cell: ([id, v]) => (
        <Link to="/accounts/$username/vaults/$vault" params={{ username, vault: id }}>
          {v.Description || id}
        </Link>
      ),
    },
    {
      key: 'kind',
      label: t('Kind'),
      width: 140,
      value: ([, v]) => (v.RebrandStorage ? t('Cloud storage') : vaultKind(v.DestinationType)),
    },
    { key: 'where', label: t('Where'), width: 160, value: ([, v]) => vaultPlace(v) },
    {
      key: 'stored',
      label: t('Stored'),
      width: 100,
      right: true,
      descending: true,
      value: ([, v]) => size(v),
      cell: ([, v]) =>
        v.StorageLimitEnabled ? (
          <span data-full={size(v) > v.StorageLimitBytes || undefined}>
            {t('{n} of {all}', { n: bytes(size(v)), all: bytes(v.StorageLimitBytes) })}
          </span>
        ) : (
          bytes(size(v))
        ),
    },
    { key: 'keep', label: t('Retention'), width: 170, value: ([, v]) => retentionText(v.DefaultRetention) },
    {
      key: 'actions',
      label: '',
      width: 215,
      right: true,
      value: () => '',
      cell: ([id, v]) => (
        <Group gap={4} justify="flex-end" wrap="nowrap">
          <ButtonLink
            size="compact-sm"
            variant="light"
            to="/accounts/$username/vaults/$vault"
            params={{ username, vault: id }}
          >
            {t('Browse and restore')}
          </ButtonLink>
          <More label={t('More for {name}', { name: v.Description || id })}>
            <MenuLink
              to="/accounts/$username/vaults/$vault/edit"
              params={{ username, vault: id }}
              disabled={!admin && policy?.PreventEditStorageVault}
            >
              {t('Edit')}
            </MenuLink>
            {admin && (
              <>
                <Menu.Divider />
                <Menu.Label>
                  {target ? t('By a device of the account') : t('No device is on line')}
                </Menu.Label>
                <Menu.Item
                  disabled={!target}
                  onClick={() => run.mutate({ what: 'apply-retention-rules', vault: id })}
                >
                  {t('Apply retention now')}
                </Menu.Item>
                <Menu.Item
                  disabled={!target}
                  onClick={() => run.mutate({ what: 'deepverify-storage-vault', vault: id })}
                >
                  {t('Verify deeply')}
                </Menu.Item>
                <Menu.Item
                  disabled={!target}
                  onClick={() => run.mutate({ what: 'reindex-storage-vault', vault: id })}
                >
                  {t('Rebuild the index')}
                </Menu.Item>
                <Menu.Item disabled={!target} onClick={() => run.mutate({ what: 'unlock', vault: id })}>
                  {t('Remove old locks')}
                </Menu.Item>
                <Menu.Divider />
              </>
            )}
            <Menu.Item
              color="red"
              disabled={!admin && policy?.PreventDeleteStorageVault}
              onClick={() => setRemoving(id)}
            >
              {t('Delete')}
            </Menu.Item>
          </More>
        </Group>
      ),
    },
  ];
  const name = profile.Destinations[removing]?.Description || removing;
  return (
    <>
      <Failure error={run.error} />
      <DataTable
        name="vaults"
        label={t('Storage Vaults')}
        rows={Object.entries(profile.Destinations)}
        columns={columns}
        id={([id]) => id}
        aside={
          <Button
            leftSection={<Plus size={14} />}
            onClick={() =>
              navigate({ to: '/accounts/$username/vaults/$vault/edit', params: { username, vault: 'new' } })
            }
          >
            {t('Add Storage Vault')}
          </Button>
        }
        empty={t('No Storage Vaults yet. They say where backups go.')}
      />
      <DangerDialog
        opened={profile.Destinations[removing] !== undefined}
        close={() => setRemoving('')}
        title={t('Delete Storage Vault')}
        text={t(
          'The vault leaves the account with its key: what is stored there can never be read again. The data itself stays in its place.',
        )}
        word={name}
        action={t('Delete')}
        run={() =>
          edit.mutateAsync((p) => {
            delete p.Destinations[removing];
            for (const [key, rule] of Object.entries(p.BackupRules)) {
              if (rule.Destination === removing) delete p.BackupRules[key];
            }
            for (const item of Object.values(p.Sources)) delete item.OverrideDestinationRetention?.[removing];
          })
        }
      />
    </>
  );
}

type Device = Profile['Devices'][string];

export function Devices({ profile, connections }: Props) {
  const { Username: username } = profile;
  const client = useQueryClient();
  const [revoking, setRevoking] = useDialogOf('revoke');
  const [command, setCommand] = useDialog('add-device');
  const edit = useEditProfile(username);
  const admin = isAdmin();
  const drop = useMutation({
    mutationFn: (id: string) => call(`${base()}/dispatcher/drop-connection`, { TargetID: id }),
    onSettled: () => client.invalidateQueries({ queryKey: ['connections'] }),
  });
  const columns: Column<[string, Device]>[] = [
    { key: 'name', label: t('Device'), width: 200, value: ([id, d]) => d.FriendlyName || id },
    {
      key: 'state',
      label: t('State'),
      width: 110,
      value: ([id]) => connectionsOf(connections, username, id).length,
      cell: ([id]) => <OnlineTag live={connectionsOf(connections, username, id).length} />,
    },
    {
      key: 'system',
      label: t('System'),
      width: 190,
      value: ([, d]) =>
        [d.PlatformVersion?.distribution, d.PlatformVersion?.version].filter(Boolean).join(' '),
    },
    { key: 'version', label: t('Version'), width: 100, value: ([, d]) => d.ClientVersion ?? '' },
    {
      key: 'items',
      label: t('Protected Items'),
      width: 120,
      right: true,
      value: ([id]) => Object.values(profile.Sources).filter((s) => s.OwnerDevice === id).length,
    },
    {
      key: 'since',
      label: t('Registered'),
      width: 140,
      value: ([, d]) => d.RegistrationTime ?? 0,
      cell: ([, d]) => <Time unix={d.RegistrationTime ?? 0} />,
    },
    {
      key: 'zone',
      label: t('Time zone'),
      width: 150,
      hidden: true,
      value: ([, d]) => d.DeviceTimezone ?? '',
    },
    { key: 'id', label: t('Device ID'), width: 260, hidden: true, value: ([id]) => id },
    {
      key: 'actions',
      label: '',
      width: 60,
      right: true,
      value: () => '',
      cell: ([id, d]) => {
        const live = connectionsOf(connections, username, id);
        return (
          <More label={t('More for {name}', { name: d.FriendlyName || id })}>
            <MenuLink
              to="/accounts/$username/items/$item"
              params={{ username, item: 'new' }}
              search={{ device: id }}
            >
              {t('Add Protected Item')}
            </MenuLink>
            <Menu.Item disabled={live.length === 0} onClick={() => live.forEach((c) => drop.mutate(c))}>
              {t('Reconnect')}
            </Menu.Item>
            <Menu.Item color="red" onClick={() => setRevoking(id)}>
              {t('Revoke')}
            </Menu.Item>
          </More>
        );
      },
    },
  ];
  const name = profile.Devices[revoking]?.FriendlyName || revoking;
  return (
    <>
      <Failure error={drop.error} />
      <DataTable
        name="account-devices"
        label={t('Devices')}
        rows={Object.entries(profile.Devices)}
        columns={columns}
        id={([id]) => id}
        aside={
          admin ? (
            <ButtonLink leftSection={<Plus size={14} />} to="/install" search={{ q: username }}>
              {t('Add a device')}
            </ButtonLink>
          ) : (
            <Button leftSection={<Plus size={14} />} onClick={() => setCommand(true)}>
              {t('Add a device')}
            </Button>
          )
        }
        empty={t('No devices yet. A device appears here once its agent has been registered.')}
      />
      <Modal opened={command} onClose={() => setCommand(false)} title={t('Add a device')}>
        <Stack gap="sm">
          <Text size="sm">{t('Run this on the device. It asks for the password of your account.')}</Text>
          <Command>{`encke agent register --server ${location.origin} --user ${username} && encke agent run`}</Command>
        </Stack>
      </Modal>
      <DangerDialog
        opened={profile.Devices[revoking] !== undefined}
        close={() => setRevoking('')}
        title={t('Revoke device')}
        text={t(
          'The device is logged out; its Protected Items and their rules are deleted. Its backups stay until retention takes them.',
        )}
        word={name}
        action={t('Revoke')}
        run={async () => {
          if (admin) {
            await call('/api/v1/admin/revoke-device', { TargetUser: username, TargetDevice: revoking });
            await client.invalidateQueries({ queryKey: ['profile', username] });
            return;
          }
          await edit.mutateAsync((p) => {
            delete p.Devices[revoking];
            for (const [id, item] of Object.entries(p.Sources)) {
              if (item.OwnerDevice !== revoking) continue;
              delete p.Sources[id];
              for (const [key, rule] of Object.entries(p.BackupRules)) {
                if (rule.Source === id) delete p.BackupRules[key];
              }
            }
          });
        }}
      />
    </>
  );
}
