import { Button, Select, Text, TextInput } from '@mantine/core';
import { useMutation, useQuery } from '@tanstack/react-query';
import { useVirtualizer } from '@tanstack/react-virtual';
import { useMemo, useRef } from 'react';
import { call, callText } from '../../api/client';
import { Empty, Failure, Loaded, Page } from '../../components/parts';
import { Severity } from '../../components/Severity';
import { language, t } from '../../i18n';
import { count, download, matches } from '../../lib/format';
import { useParam } from '../../lib/search';

const dayName = (day: number) => new Date(day * 1000).toLocaleDateString(language(), { timeZone: 'UTC' });

/** How grave a line is, by the word the server writes. */
function gravity(line: string): 'E' | 'W' | 'D' | 'I' {
  const word = /\b(ERROR|WARN|DEBUG|TRACE|INFO)\b/.exec(line)?.[1];
  return word === 'ERROR' ? 'E' : word === 'WARN' ? 'W' : word === 'DEBUG' || word === 'TRACE' ? 'D' : 'I';
}

function Lines({ text, words, least }: { text: string; words: string; least: string }) {
  const box = useRef<HTMLDivElement>(null);
  const lines = useMemo(() => {
    const wanted = { warnings: 'WE', errors: 'E' }[least] ?? 'DIWE';
    return text
      .split('\n')
      .filter((line) => line !== '' && wanted.includes(gravity(line)) && matches(words, line))
      .reverse();
  }, [text, words, least]);
  const rows = useVirtualizer({
    count: lines.length,
    getScrollElement: () => box.current,
    estimateSize: () => 20,
    overscan: 20,
    initialRect: { width: 800, height: 600 },
  });
  if (lines.length === 0) return <Empty>{t('Nothing to show.')}</Empty>;
  return (
    <>
      <Text size="xs" c="dimmed">
        {t('{n} lines, newest first', { n: count(lines.length) })}
      </Text>
      <div ref={box} className="rows logLines" role="region" aria-label={t('Logs')} tabIndex={0}>
        <div style={{ height: rows.getTotalSize(), position: 'relative' }} className="log">
          {rows.getVirtualItems().map(({ index, start }) => (
            <div
              key={index}
              ref={rows.measureElement}
              data-index={index}
              className={gravity(lines[index] ?? '')}
              style={{ position: 'absolute', top: 0, left: 0, right: 0, transform: `translateY(${start}px)` }}
            >
              {lines[index]}
            </div>
          ))}
        </div>
      </div>
    </>
  );
}

export function Logs() {
  const days = useQuery({
    queryKey: ['log-days'],
    queryFn: () => call<number[]>('/api/v1/admin/meta/list-available-log-days'),
  });
  const [words, setWords] = useParam('q');
  const [least, setLeast] = useParam('show');
  const [wanted, setDay] = useParam('day');
  const sorted = [...(days.data ?? [])].sort((a, b) => b - a);
  const day = wanted || String(sorted[0] ?? '');
  const log = useQuery({
    queryKey: ['log', day],
    enabled: day !== '',
    queryFn: () => callText('/api/v1/admin/meta/read-logs', { Log: day }),
    refetchInterval: day === String(sorted[0]) ? 10_000 : false,
  });
  const save = useMutation({
    mutationFn: async () => download(`encke-${day}.log`, log.data ?? '', 'text/plain'),
  });
  return (
    <Page
      title={t('Logs')}
      wide
      aside={
        <>
          <Select
            size="xs"
            w={150}
            aria-label={t('Day')}
            data={sorted.map((d) => ({ value: String(d), label: dayName(d) }))}
            value={day || null}
            onChange={setDay}
          />
          <Severity value={least} set={setLeast} />
          <TextInput
            size="xs"
            placeholder={t('Search')}
            aria-label={t('Search the log')}
            value={words}
            onChange={(e) => setWords(e.currentTarget.value)}
            data-search
          />
          <Button variant="default" onClick={() => save.mutate()} disabled={!log.data}>
            {t('Download')}
          </Button>
        </>
      }
    >
      <Failure error={save.error} />
      {days.data?.length === 0 ? (
        <Empty>{t('No logs yet.')}</Empty>
      ) : (
        <Loaded query={days.error ? { data: undefined, error: days.error } : log}>
          {(text) => <Lines text={text} words={words} least={least} />}
        </Loaded>
      )}
    </Page>
  );
}
