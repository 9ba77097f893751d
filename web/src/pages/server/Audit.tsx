// Who changed what, when, from where, with what it was and became: what the server noted, newest first.
import { Button, Group, Modal, Stack, Table, Text, TextInput } from '@mantine/core';
import { useDebouncedValue } from '@mantine/hooks';
import { useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { type ReactNode, useMemo } from 'react';
import { call } from '../../api/client';
import { groupsQuery, policiesQuery, quotasQuery, tenantsQuery, useTopLevel } from '../../api/queries';
import { type Column, DataTable } from '../../components/DataTable';
import { Chosen, DaysFilter, Filter } from '../../components/Filters';
import { Fact, Loaded, Page, Tag, Time } from '../../components/parts';
import { t } from '../../i18n';
import { actions, type Deed, kinds, line, shown, summary, where } from '../../lib/audit';
import { exact } from '../../lib/format';
import { useParam } from '../../lib/search';

const PATH = '/api/encke/v1/audit/list';
type Answer = { Deeds: Deed[]; Next: number };

/** Rows fetched at once. */
const PART = 500;
/** Days that the list can be confined to. */
const SPANS = ['1', '7', '30', '90'];

const actionOf = (deed: Deed) => actions()[deed.Action] ?? [deed.Action, 'quiet' as const];

/** What policies, tenants, groups and quotas are called now. */
function useNames(): (deed: Deed) => string {
  const topLevel = useTopLevel() === true;
  const policies = useQuery(policiesQuery()).data;
  const groups = useQuery(groupsQuery()).data;
  const tenants = useQuery({ ...tenantsQuery(), enabled: topLevel }).data;
  const quotas = useQuery({ ...quotasQuery(), enabled: topLevel }).data;
  const names: Record<string, (id: string) => string | undefined> = {
    policy: (id) => policies?.[id]?.Description,
    group: (id) => groups?.[id]?.Name,
    tenant: (id) => tenants?.[id]?.Name,
    quota: (id) => quotas?.[id]?.Description,
  };
  // What is gone has no name any more.
  return ({ Kind, ResourceID: id }) => names[Kind]?.(id) || id;
}

/** The touched thing, as a way to its page where it has one. */
function Resource({ deed }: { deed: Deed }): ReactNode {
  const nameOf = useNames();
  const id = deed.ResourceID;
  if (id === '') return '–';
  if (deed.Action === 'remove') return id;
  const name = <span title={id}>{nameOf(deed)}</span>;
  switch (deed.Kind) {
    case 'account':
      return (
        <Link to="/accounts/$username" params={{ username: id }}>
          {id}
        </Link>
      );
    case 'policy':
      return (
        <Link to="/policies/$id" params={{ id }}>
          {name}
        </Link>
      );
    case 'tenant':
      return (
        <Link to="/tenants/$id" params={{ id }}>
          {name}
        </Link>
      );
    case 'administrator':
      return (
        <Link to="/admins/$name" params={{ name: id }}>
          {id}
        </Link>
      );
    default:
      return name;
  }
}

/** One entry with all that it changed, side by side. */
function Entry({ deed }: { deed: Deed }) {
  const { Changes, LeftOut } = deed.Differences;
  return (
    <Stack gap="sm">
      <Group gap="lg">
        <Fact label={t('Time')}>{exact(deed.Timestamp)}</Fact>
        <Fact label={t('Who')}>{deed.Actor || t('The server')}</Fact>
        {deed.Address && <Fact label={t('From address')}>{deed.Address}</Fact>}
        <Fact label={t('To what')}>{kinds()[deed.Kind] ?? deed.Kind}</Fact>
        <Fact label={t('Which')}>
          <Resource deed={deed} />
        </Fact>
      </Group>
      {Changes.length === 0 ? (
        <Text size="sm" c="dimmed">
          {t('Nothing more is known about it.')}
        </Text>
      ) : (
        <Table className="diff" layout="fixed" withRowBorders>
          <Table.Thead>
            <Table.Tr>
              <Table.Th>{t('What was changed')}</Table.Th>
              <Table.Th>{t('Before')}</Table.Th>
              <Table.Th>{t('After')}</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {Changes.map((d) => (
              <Table.Tr key={where(d)}>
                <Table.Th scope="row">{where(d)}</Table.Th>
                <Table.Td data-side={shown(d.Old) ? 'old' : undefined}>{shown(d.Old)}</Table.Td>
                <Table.Td data-side={shown(d.New) ? 'new' : undefined}>{shown(d.New)}</Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      )}
      {LeftOut > 0 && (
        <Text size="sm" c="dimmed">
          {t('and {n} more, which are not kept', { n: LeftOut })}
        </Text>
      )}
    </Stack>
  );
}

/** The entry that the address names, whether it is in the list or not. */
function EntryDialog({ known }: { known: Deed[] }) {
  const [id, setId] = useParam('dialog');
  const listed = known.find((d) => String(d.ID) === id);
  const asked = useQuery({
    queryKey: ['audit', 'one', id],
    enabled: id !== '' && listed === undefined,
    queryFn: async () => {
      const { Deeds } = await call<Answer>(PATH, { Before: Number(id) + 1, Limit: 1 });
      const [found] = Deeds;
      if (found && String(found.ID) === id) return found;
      throw new Error(t('This is not kept any more.'));
    },
  });
  const deed = listed ?? asked.data;
  return (
    <Modal
      opened={id !== ''}
      onClose={() => setId(null)}
      size="xl"
      title={
        deed ? `${actionOf(deed)[0]}: ${kinds()[deed.Kind] ?? deed.Kind} ${deed.ResourceID}` : t('Audit')
      }
    >
      <Loaded query={{ data: deed, error: asked.error }}>{(found) => <Entry deed={found} />}</Loaded>
    </Modal>
  );
}

export function Audit() {
  const [kind, setKind] = useParam('show');
  const [action, setAction] = useParam('by');
  const [actor, setActor] = useParam('who');
  const [which, setWhich] = useParam('which');
  const [days, setDays] = useParam('day');
  const [words] = useParam('q');
  const [, setDialog] = useParam('dialog', { keep: true });
  const [asked] = useDebouncedValue({ words, actor }, 250);
  const since = useMemo(() => Math.floor(Date.now() / 60_000) * 60 - Number(days) * 86_400, [days]);
  const deeds = useInfiniteQuery({
    queryKey: ['audit', kind, action, asked, which, days],
    initialPageParam: 0,
    queryFn: ({ pageParam }) =>
      call<Answer>(PATH, {
        Kind: kind || undefined,
        Action: action || undefined,
        Actor: asked.actor || undefined,
        ResourceID: which || undefined,
        Contains: asked.words || undefined,
        Since: days ? since : undefined,
        Before: pageParam || undefined,
        Limit: PART,
      }),
    getNextPageParam: (last) => last.Next || undefined,
    placeholderData: (old) => old,
  });
  const rows = useMemo(() => deeds.data?.pages.flatMap((page) => page.Deeds) ?? [], [deeds.data]);
  const nameOf = useNames();
  const columns: Column<Deed>[] = [
    {
      key: 'time',
      label: t('Time'),
      width: 140,
      descending: true,
      value: (d) => d.ID,
      cell: (d) => <Time unix={d.Timestamp} />,
    },
    { key: 'exact', label: t('Exact time'), width: 190, hidden: true, value: (d) => exact(d.Timestamp) },
    {
      key: 'actor',
      label: t('Who'),
      width: 120,
      value: (d) => d.Actor || t('The server'),
      cell: (d) => d.Actor || <Tag tone="quiet">{t('The server')}</Tag>,
    },
    { key: 'address', label: t('From address'), width: 125, value: (d) => d.Address },
    {
      key: 'deed',
      label: t('Did what'),
      width: 105,
      value: (d) => actionOf(d)[0],
      cell: (d) => <Tag tone={actionOf(d)[1]}>{actionOf(d)[0]}</Tag>,
    },
    { key: 'thing', label: t('To what'), width: 120, value: (d) => kinds()[d.Kind] ?? d.Kind },
    {
      key: 'resource',
      label: t('Which'),
      width: 165,
      value: nameOf,
      cell: (d) => <Resource deed={d} />,
    },
    {
      key: 'changes',
      label: t('What was changed'),
      width: 260,
      value: (d) => d.Differences.Changes.map(line).join('\n'),
      cell: (d) => (
        <button type="button" className="linklike" onClick={() => setDialog(String(d.ID))}>
          {summary(d) || t('Details')}
        </button>
      ),
    },
    { key: 'tenant', label: t('Tenant'), width: 230, hidden: true, value: (d) => d.OwnerOrganizationID },
  ];
  const options = (all: [string, string][]): [string, string][] => [['', t('Everything')], ...all];
  return (
    <Page title={t('Audit')} wide>
      <Text size="sm" c="dimmed">
        {t(
          'Who changed, restored and downloaded what, when and from where, for as long as jobs are kept. Secrets are never kept here.',
        )}
      </Text>
      <Loaded query={{ data: deeds.data, error: deeds.error }}>
        {() => (
          <Stack gap="xs">
            <DataTable
              name="audit"
              label={t('changes')}
              rows={rows}
              columns={columns}
              id={(d) => String(d.ID)}
              sort="time"
              searched
              open={(d) => setDialog(String(d.ID))}
              aside={
                <>
                  <Filter
                    label={t('Changes of')}
                    width={140}
                    value={kind}
                    set={setKind}
                    options={options(Object.entries(kinds()))}
                  />
                  <Filter
                    label={t('Did what')}
                    width={120}
                    value={action}
                    set={setAction}
                    options={options(Object.entries(actions()).map(([value, [label]]) => [value, label]))}
                  />
                  <DaysFilter any={t('At any time')} days={SPANS} value={days} set={setDays} width={130} />
                  <TextInput
                    w={110}
                    aria-label={t('Who')}
                    placeholder={t('Who')}
                    value={actor}
                    onChange={(e) => setActor(e.currentTarget.value)}
                  />
                  {which && (
                    <Chosen more={t('Show changes of others, too')} drop={() => setWhich(null)}>
                      {which}
                    </Chosen>
                  )}
                </>
              }
              empty={
                kind || action || actor || which || days
                  ? t('Nothing fits the search.')
                  : t('Nothing was changed yet.')
              }
            />
            {deeds.hasNextPage && (
              <Group justify="center">
                <Button
                  variant="default"
                  onClick={() => deeds.fetchNextPage()}
                  loading={deeds.isFetchingNextPage}
                >
                  {t('Show older ones')}
                </Button>
              </Group>
            )}
          </Stack>
        )}
      </Loaded>
      <EntryDialog known={rows} />
    </Page>
  );
}
