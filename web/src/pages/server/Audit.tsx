// Who changed what: the events the server keeps, newest first.
import { Button, Group, Select, Stack, Text } from '@mantine/core';
import { useInfiniteQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import type { ReactNode } from 'react';
import { call } from '../../api/client';
import { type Column, DataTable } from '../../components/DataTable';
import { Loaded, Page, Tag, Time } from '../../components/parts';
import { t } from '../../i18n';
import { exact, type Tone } from '../../lib/format';
import { useParam } from '../../lib/search';

type Told = {
  ID: number;
  Timestamp: number;
  Actor: string;
  OwnerOrganizationID: string;
  ResourceID: string;
  Type: number;
  TypeString: string;
};

/** What the numbers of events stand for: the thing and what became of it. */
const things = (): Record<string, [string, number[]]> => ({
  account: [t('Account'), [4100, 4101, 4102]],
  admin: [t('Administrator'), [4150, 4151, 4152]],
  job: [t('Job'), [4200, 4201]],
  bucket: [t('Bucket'), [4300, 4301]],
  server: [t('Server settings'), [4403]],
  tenant: [t('Tenant'), [4500, 4501, 4502]],
  policy: [t('Policy'), [4600, 4601, 4602]],
  device: [t('Device'), [4700, 4701]],
  group: [t('Group'), [4800, 4801, 4802]],
  quota: [t('Shared quota'), [4900, 4901, 4902]],
});

function deed(type: string): [string, Tone] {
  if (type.endsWith('_NEW')) return [t('Added'), 'good'];
  if (type.endsWith('_REMOVED')) return [t('Removed'), 'bad'];
  if (type.endsWith('_COMPLETED')) return [t('Finished'), 'quiet'];
  return [t('Changed'), 'busy'];
}

const thing = (type: string): string => {
  const word = type.startsWith('SEVT_ACCOUNT_ADMIN') ? 'admin' : (type.split('_')[1] ?? '').toLowerCase();
  const named: Record<string, string> = { usergroup: 'group', squota: 'quota' };
  return things()[named[word] ?? word]?.[0] ?? type;
};

/** The touched thing, as a way to its page where it has one. */
function resource(event: Told): ReactNode {
  const id = event.ResourceID;
  if (event.TypeString.endsWith('_REMOVED')) return id;
  if (event.TypeString.startsWith('SEVT_JOB')) {
    return (
      <Link to="/jobs/$id" params={{ id }}>
        {id}
      </Link>
    );
  }
  if (event.TypeString.startsWith('SEVT_POLICY')) {
    return (
      <Link to="/policies/$id" params={{ id }}>
        {id}
      </Link>
    );
  }
  if (/^SEVT_ACCOUNT_(NEW|UPDATED)$/.test(event.TypeString)) {
    return (
      <Link to="/accounts/$username" params={{ username: id }}>
        {id}
      </Link>
    );
  }
  return id || '–';
}

export function Audit() {
  const [kind, setKind] = useParam('show');
  const events = useInfiniteQuery({
    queryKey: ['audit', kind],
    initialPageParam: 0,
    queryFn: ({ pageParam }) =>
      call<{ Events: Told[]; Next: number }>('/api/encke/v1/events/list', {
        Types: things()[kind]?.[1],
        Before: pageParam || undefined,
        Limit: 500,
      }),
    getNextPageParam: (last) => last.Next || undefined,
  });
  const columns: Column<Told>[] = [
    {
      key: 'time',
      label: t('Time'),
      width: 150,
      descending: true,
      value: (e) => e.ID,
      cell: (e) => <Time unix={e.Timestamp} />,
    },
    { key: 'exact', label: t('Exact time'), width: 190, hidden: true, value: (e) => exact(e.Timestamp) },
    {
      key: 'actor',
      label: t('Who'),
      width: 180,
      value: (e) => e.Actor || t('The server'),
      cell: (e) => e.Actor || <Tag tone="quiet">{t('The server')}</Tag>,
    },
    {
      key: 'deed',
      label: t('Did what'),
      width: 120,
      value: (e) => deed(e.TypeString)[0],
      cell: (e) => <Tag tone={deed(e.TypeString)[1]}>{deed(e.TypeString)[0]}</Tag>,
    },
    { key: 'thing', label: t('To what'), width: 150, value: (e) => thing(e.TypeString) },
    {
      key: 'resource',
      label: t('Which'),
      width: 330,
      value: (e) => e.ResourceID,
      cell: (e) => <span className="mono">{resource(e)}</span>,
    },
    { key: 'type', label: t('Event type'), width: 230, hidden: true, value: (e) => e.TypeString },
    { key: 'tenant', label: t('Tenant'), width: 230, hidden: true, value: (e) => e.OwnerOrganizationID },
  ];
  return (
    <Page title={t('Audit')} wide>
      <Text size="sm" c="dimmed">
        {t(
          'What was changed and by whom, for as long as jobs are kept. Log-ins are in the log of the server; live they go to the event stream.',
        )}
      </Text>
      <Loaded query={{ data: events.data, error: events.error }}>
        {(data) => (
          <Stack gap="xs">
            <DataTable
              name="audit"
              label={t('events')}
              rows={data.pages.flatMap((page) => page.Events)}
              columns={columns}
              id={(e) => String(e.ID)}
              sort="time"
              aside={
                <Select
                  size="xs"
                  w={170}
                  aria-label={t('Changes of')}
                  value={kind || 'all'}
                  onChange={(next) => setKind(next === 'all' ? null : next)}
                  data={[
                    { value: 'all', label: t('Everything') },
                    ...Object.entries(things()).map(([value, [label]]) => ({ value, label })),
                  ]}
                />
              }
              empty={t('Nothing was changed yet.')}
            />
            {events.hasNextPage && (
              <Group justify="center">
                <Button
                  variant="default"
                  onClick={() => events.fetchNextPage()}
                  loading={events.isFetchingNextPage}
                >
                  {t('Show older ones')}
                </Button>
              </Group>
            )}
          </Stack>
        )}
      </Loaded>
    </Page>
  );
}
