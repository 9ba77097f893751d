import { Button, Collapse, Group } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useNavigate, useSearch } from '@tanstack/react-router';
import { useMemo, useState } from 'react';
import { isAdmin, isRunning, searchJobs, useJobs } from '../api/queries';
import type { Job, SearchClause } from '../api/types';
import { Chosen, DaysFilter, Filter } from '../components/Filters';
import { JobTable } from '../components/JobTable';
import { Loaded, Page } from '../components/parts';
import { SearchBuilder } from '../components/SearchBuilder';
import { t } from '../i18n';
import { clauseOf, clauseText, group, newClause, rule } from '../lib/clauses';
import { exact } from '../lib/format';
import { type Search, useDialog, useParam } from '../lib/search';

const SHOWN: Record<string, (job: Job) => boolean> = {
  running: isRunning,
  success: (job) => job.Status < 6000,
  warning: (job) => job.Status === 7001,
  failed: (job) => job.Status >= 7000 && ![7001, 7005, 7006].includes(job.Status),
};

/** Days that the list looks back; three come with the live list. */
const SPANS = ['3', '7', '30', '90', '365'];

export function Jobs() {
  const [show, setShow] = useParam('show');
  const [path, setPath] = useParam('path', { keep: true });
  const [days, setDays] = useParam('day');
  const [item, setItem] = useParam('where');
  const search = useSearch({ strict: false }) as Search;
  const navigate = useNavigate();
  // A span out of a chart; it goes before the days.
  const between = [search.from, search.to].map(Number) as [number, number];
  const limited = between[0] > 0 && between[1] > 0;
  const [start, end] = between;
  const own = path ? clauseOf(path) : null;
  const [draft, setDraft] = useState<SearchClause>(() => own ?? group('and', [newClause()]));
  const [building, setBuilding] = useDialog('search');
  const span = isAdmin() ? days || '3' : days || '365';
  // The list of the last days is live; anything else is a search of its own.
  const searched = own !== null || item !== '' || limited || (isAdmin() && span !== '3');
  const from = useMemo(() => Math.floor(Date.now() / 60_000) * 60 - Number(span) * 86_400, [span]);
  const query = useMemo(() => {
    const parts: SearchClause[] = limited
      ? [rule('StartTime', 'int_gte', start), rule('StartTime', 'int_lte', end)]
      : [rule('StartTime', 'int_gte', from)];
    if (item) parts.push(rule('SourceGUID', 'str_eq', item));
    const asked = path ? clauseOf(path) : null;
    if (asked) parts.push(asked);
    return group('and', parts);
  }, [from, item, path, limited, start, end]);
  const live = useJobs();
  const found = useQuery({
    queryKey: ['jobs', 'search', clauseText(query)],
    enabled: searched,
    queryFn: () => searchJobs(query),
  });
  const jobs = searched ? found : live;
  return (
    <Page
      title={t('Job history')}
      aside={
        <Button
          variant={building || own ? 'light' : 'default'}
          onClick={() => setBuilding(!building)}
          aria-expanded={building}
        >
          {t('Search builder')}
        </Button>
      }
    >
      <Collapse expanded={building}>
        {building && (
          <div className="card">
            <SearchBuilder clause={draft} set={setDraft} />
            <Group gap="xs" mt="sm">
              <Button onClick={() => setPath(clauseText(draft))} loading={found.isFetching && own !== null}>
                {t('Find')}
              </Button>
              <Button
                variant="default"
                onClick={() => {
                  setPath(null);
                  setDraft(group('and', [newClause()]));
                }}
              >
                {t('Clear')}
              </Button>
            </Group>
          </div>
        )}
      </Collapse>
      <Loaded query={jobs}>
        {(data) => (
          <JobTable
            jobs={data.filter(
              (job) => (SHOWN[show] ?? (() => true))(job) && (isAdmin() || limited || job.StartTime >= from),
            )}
            aside={
              <>
                <Filter
                  label={t('Status')}
                  width={140}
                  value={show}
                  set={setShow}
                  options={[
                    ['', t('All')],
                    ['running', t('Running')],
                    ['success', t('Success')],
                    ['warning', t('Warning')],
                    ['failed', t('Failed')],
                  ]}
                />
                {limited ? (
                  <Chosen
                    more={t('Show other times, too')}
                    drop={() =>
                      navigate({
                        to: '.',
                        search: ({ from: _, to: __, ...rest }: Search) => rest,
                      })
                    }
                  >
                    {t('{from} to {to}', { from: exact(start), to: exact(end) })}
                  </Chosen>
                ) : (
                  <DaysFilter days={SPANS} value={span} set={setDays} />
                )}
                {item && (
                  <Chosen more={t('Show jobs of other items, too')} drop={() => setItem(null)}>
                    {t('One Protected Item')}
                  </Chosen>
                )}
              </>
            }
          />
        )}
      </Loaded>
    </Page>
  );
}
