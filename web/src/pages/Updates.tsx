// The update campaign: whom it chooses, and how far every device has come.
import { Alert, Button, Checkbox, Group, Stack, Switch, Text } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { type FormEvent, useState } from 'react';
import { call } from '../api/client';
import { useProfiles } from '../api/queries';
import type { SearchClause } from '../api/types';
import { type Column, DataTable } from '../components/DataTable';
import { Failure, Loaded, Section, Tag, Time } from '../components/parts';
import { SearchBuilder } from '../components/SearchBuilder';
import { t } from '../i18n';
import { group, newClause } from '../lib/clauses';
import { count, type Tone } from '../lib/format';

type Entry = { Username: string; DeviceID: string; Status: number };

type Options = {
  Active: boolean;
  UpgradeOlder: boolean;
  ReinstallCurrentVer: boolean;
  DowngradeNewer: boolean;
  ForceUpgradeRunning: boolean;
  ApplyDeviceFilter: boolean;
  DeviceFilter: SearchClause;
};

type Campaign = Options & { StartTime: number; TargetVersion: string; Devices: Entry[] };

const STATES: { name: () => string; tone: Tone }[] = [
  { name: () => t('Not seen yet'), tone: 'quiet' },
  { name: () => t('Not chosen'), tone: 'quiet' },
  { name: () => t('Waits for its turn'), tone: 'busy' },
  { name: () => t('Asked'), tone: 'busy' },
  { name: () => t('Failed'), tone: 'bad' },
  { name: () => t('Updated'), tone: 'good' },
];

const stateName = (state: number) => STATES[state]?.name() ?? String(state);

/** How often the states are asked for while a campaign runs, in milliseconds. */
const LOOK = 3000;

function Form({ busy, start, error }: { busy: boolean; start: (o: Options) => void; error: Error | null }) {
  const [options, setOptions] = useState<Options>({
    Active: true,
    UpgradeOlder: true,
    ReinstallCurrentVer: true,
    DowngradeNewer: false,
    ForceUpgradeRunning: false,
    ApplyDeviceFilter: false,
    DeviceFilter: group('and', [newClause('devices')]),
  });
  const toggle = (key: keyof Options) => () => setOptions({ ...options, [key]: !options[key] });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    start(options);
  };
  const chooses = options.UpgradeOlder || options.ReinstallCurrentVer || options.DowngradeNewer;
  return (
    <form onSubmit={submit} className="card">
      <Stack gap="sm">
        <Failure error={error} />
        <Checkbox
          label={t('Devices of an older version')}
          checked={options.UpgradeOlder}
          onChange={toggle('UpgradeOlder')}
        />
        <Checkbox
          label={t('Devices of the same version that run another build')}
          checked={options.ReinstallCurrentVer}
          onChange={toggle('ReinstallCurrentVer')}
        />
        <Checkbox
          label={t('Devices of a newer version')}
          checked={options.DowngradeNewer}
          onChange={toggle('DowngradeNewer')}
        />
        <Switch
          label={t('Cancel jobs that run')}
          description={t('Else each device waits until it has none.')}
          checked={options.ForceUpgradeRunning}
          onChange={toggle('ForceUpgradeRunning')}
        />
        <Switch
          label={t('Only devices that a search finds')}
          checked={options.ApplyDeviceFilter}
          onChange={toggle('ApplyDeviceFilter')}
        />
        {options.ApplyDeviceFilter && (
          <SearchBuilder
            subject="devices"
            clause={options.DeviceFilter}
            set={(DeviceFilter) => setOptions({ ...options, DeviceFilter })}
          />
        )}
        <Group justify="flex-end">
          <Button type="submit" loading={busy} disabled={!chooses}>
            {t('Start the campaign')}
          </Button>
        </Group>
      </Stack>
    </form>
  );
}

function Devices({ entries }: { entries: Entry[] }) {
  const profiles = useProfiles(true);
  const nameOf = (e: Entry) =>
    profiles.data?.[e.Username]?.Devices[e.DeviceID]?.FriendlyName || e.DeviceID.slice(0, 12);
  const columns: Column<Entry>[] = [
    { key: 'device', label: t('Device'), width: 220, value: nameOf },
    {
      key: 'account',
      label: t('Account'),
      width: 200,
      value: (e) => e.Username,
      cell: (e) => (
        <Link to="/accounts/$username" params={{ username: e.Username }} search={{ tab: 'devices' }}>
          {e.Username}
        </Link>
      ),
    },
    {
      key: 'state',
      label: t('State'),
      width: 180,
      value: (e) => stateName(e.Status),
      cell: (e) => <Tag tone={STATES[e.Status]?.tone ?? 'quiet'}>{stateName(e.Status)}</Tag>,
    },
    { key: 'id', label: t('Device ID'), width: 260, hidden: true, value: (e) => e.DeviceID },
  ];
  return (
    <DataTable
      name="updates"
      label={t('devices')}
      rows={entries}
      columns={columns}
      id={(e) => `${e.Username}/${e.DeviceID}`}
      empty={t('No device is registered.')}
    />
  );
}

export function Updates() {
  const client = useQueryClient();
  const campaign = useQuery({
    queryKey: ['campaign'],
    retry: false,
    queryFn: () => call<Campaign>('/api/v1/admin/update-campaign/status'),
    refetchInterval: (query) => (query.state.data?.Active ? LOOK : false),
  });
  const change = useMutation({
    mutationFn: (options: Options) => call('/api/v1/admin/update-campaign/start', { Options: options }),
    onSettled: () => client.invalidateQueries({ queryKey: ['campaign'] }),
  });
  return (
    <Loaded query={campaign}>
      {(c) => {
        const of = (state: number) => (c.Devices ?? []).filter((e) => e.Status === state).length;
        return (
          <Stack gap="lg">
            {c.Active && (
              <Alert
                variant="light"
                title={t('A campaign for version {version} runs', { version: c.TargetVersion })}
              >
                <Group justify="space-between" gap="xs">
                  <Text size="sm" role="status">
                    {t('Updated: {done}, failed: {failed}, asked or waiting: {busy}', {
                      done: count(of(5)),
                      failed: count(of(4)),
                      busy: count(of(2) + of(3)),
                    })}{' '}
                    · <Time unix={c.StartTime} />
                  </Text>
                  <Button
                    variant="default"
                    loading={change.isPending}
                    onClick={() => change.mutate({ ...c, Active: false })}
                  >
                    {t('End the campaign')}
                  </Button>
                </Group>
              </Alert>
            )}
            <Section
              title={c.Active ? t('Another campaign in its place') : t('Update devices')}
              help={t(
                "Devices change to this server's program as they come on line. The old program comes back where the new one does not get connected.",
              )}
            >
              <Form busy={change.isPending} error={change.error} start={(o) => change.mutate(o)} />
            </Section>
            {c.StartTime > 0 && (
              <Section title={t('Devices')}>
                <Devices entries={c.Devices ?? []} />
              </Section>
            )}
          </Stack>
        );
      }}
    </Loaded>
  );
}
