// The last days of every Protected Item or device at a glance: the worst status of a day colours it.
import { SegmentedControl } from '@mantine/core';
import { Link } from '@tanstack/react-router';
import { useMemo } from 'react';
import { useConnections, useProfiles } from '../api/queries';
import type { Job } from '../api/types';
import { type Column, DataTable } from '../components/DataTable';
import { Loaded, Page, Tag } from '../components/parts';
import { Strip } from '../components/Strip';
import { t } from '../i18n';
import { DAYS, rankOf, useActivity, worstByDay } from '../lib/activity';
import { useParam } from '../lib/search';
import { connectionsOf } from './account/connections';

type Row = {
  id: string;
  /** The Protected Item; nothing for a device as a whole. */
  source?: string;
  name: string;
  account: string;
  device: string;
  live: boolean;
  scheduled: boolean;
  days: (Job | undefined)[];
};

export function Activity() {
  const profiles = useProfiles();
  const connections = useConnections();
  const [by, setBy] = useParam('by');
  const byDevice = by === 'device';
  const { starts, jobs } = useActivity();
  const rows = useMemo(() => {
    const worst = worstByDay(jobs.data ?? [], starts, (job) =>
      byDevice ? `${job.Username}\n${job.DeviceID}` : job.SourceGUID && `${job.Username}\n${job.SourceGUID}`,
    );
    const none = starts.map(() => undefined);
    const daysOf = (id: string) => worst.get(id) ?? none;
    return Object.values(profiles.data ?? {}).flatMap((p) => {
      const live = (device: string) => connectionsOf(connections.data ?? {}, p.Username, device).length > 0;
      const nameOf = (device: string) => p.Devices[device]?.FriendlyName || device.slice(0, 12);
      const scheduled = (source: string) =>
        Object.values(p.BackupRules).some((r) => r.Source === source && (r.Schedules ?? []).length > 0);
      if (byDevice) {
        return Object.keys(p.Devices).map((device): Row => {
          const id = `${p.Username}\n${device}`;
          const items = Object.entries(p.Sources).filter(([, s]) => s.OwnerDevice === device);
          return {
            id,
            name: nameOf(device),
            account: p.Username,
            device: nameOf(device),
            live: live(device),
            scheduled: items.some(([source]) => scheduled(source)),
            days: daysOf(id),
          };
        });
      }
      return Object.entries(p.Sources).map(([source, item]): Row => {
        const id = `${p.Username}\n${source}`;
        return {
          id,
          source,
          name: item.Description || source,
          account: p.Username,
          device: nameOf(item.OwnerDevice),
          live: live(item.OwnerDevice),
          scheduled: scheduled(source),
          days: daysOf(id),
        };
      });
    });
  }, [jobs.data, profiles.data, connections.data, starts, byDevice]);
  const columns: Column<Row>[] = [
    {
      key: 'name',
      label: byDevice ? t('Device') : t('Protected Item'),
      width: 230,
      value: (r) => r.name,
      cell: (r) =>
        r.source ? (
          <Link to="/accounts/$username/items/$item" params={{ username: r.account, item: r.source }}>
            {r.name}
          </Link>
        ) : (
          <Link to="/accounts/$username" params={{ username: r.account }} search={{ tab: 'devices' }}>
            {r.name}
          </Link>
        ),
    },
    {
      key: 'account',
      label: t('Account'),
      width: 170,
      value: (r) => r.account,
      cell: (r) => (
        <Link to="/accounts/$username" params={{ username: r.account }}>
          {r.account}
        </Link>
      ),
    },
    ...(byDevice ? [] : [{ key: 'device', label: t('Device'), width: 170, value: (r: Row) => r.device }]),
    {
      key: 'days',
      label: t('Last {n} days', { n: DAYS }),
      width: 230,
      descending: true,
      value: (r) => r.days.reduce((sum, j) => sum + (j ? 10 ** rankOf(j) : 0), 0),
      cell: (r) => <Strip days={r.days} starts={starts} />,
    },
    {
      key: 'notes',
      label: t('Notes'),
      width: 200,
      value: (r) =>
        [r.live ? '' : t('Off line'), r.scheduled ? '' : t('No schedule')].filter(Boolean).join(', '),
      cell: (r) => (
        <>
          {!r.live && <Tag tone="quiet">{t('Off line')}</Tag>}{' '}
          {!r.scheduled && <Tag tone="warn">{t('No schedule')}</Tag>}
        </>
      ),
    },
  ];
  return (
    <Page title={t('Recent activity')}>
      <Loaded query={jobs}>
        {() => (
          <DataTable
            name={byDevice ? 'activity-devices' : 'activity'}
            label={byDevice ? t('Devices') : t('Protected Items')}
            rows={rows}
            columns={columns}
            id={(r) => r.id}
            sort="days"
            aside={
              <SegmentedControl
                aria-label={t('By what')}
                value={byDevice ? 'device' : 'item'}
                onChange={(next) => setBy(next === 'device' ? next : null)}
                data={[
                  { value: 'item', label: t('Protected Items') },
                  { value: 'device', label: t('Devices') },
                ]}
              />
            }
            empty={
              byDevice
                ? t('No devices yet. A device appears here once its agent has been registered.')
                : t('No Protected Items yet. Add one on the page of an account.')
            }
          />
        )}
      </Loaded>
    </Page>
  );
}
