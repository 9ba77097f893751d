// The table of every list: search, sorting, choice of columns, named views, export, and only the rows in view exist.
import {
  ActionIcon,
  Checkbox,
  Group,
  Menu,
  Popover,
  Select,
  Stack,
  Table,
  Text,
  TextInput,
} from '@mantine/core';
import { useClipboard, useLocalStorage, useMediaQuery } from '@mantine/hooks';
import { useNavigate } from '@tanstack/react-router';
import { useVirtualizer } from '@tanstack/react-virtual';
import { type KeyboardEvent, type ReactNode, useEffect, useMemo, useRef, useState } from 'react';
import { t } from '../i18n';
import { count, csv, download, matches, saveBlob, tabbed } from '../lib/format';
import { useParam } from '../lib/search';
import { CardList } from './CardList';
import { Check, Columns, Download } from './icons';
import { Empty } from './parts';
import { Views } from './Views';

export type Column<T> = {
  key: string;
  label: string;
  /** What is sorted, searched and exported. */
  value: (row: T) => string | number;
  cell?: (row: T) => ReactNode;
  right?: boolean;
  /** Width in pixels; columns share what is left over. */
  width?: number;
  /** Not shown until somebody wants it. */
  hidden?: boolean;
  /** The cell finds out by itself what it shows. */
  live?: boolean;
  /** Newest or largest first. */
  descending?: boolean;
};

const ROW = 36;
/** Where rows are shown as cards: the width at which the frame hides its side bar. */
const NARROW = '(max-width: 48em)';

export function DataTable<T>({
  name,
  label,
  rows,
  columns,
  id,
  empty,
  aside,
  open,
  sort: firstSort,
  limit,
  plain,
  searched,
}: {
  /** Under which the choice of columns is kept. */
  name: string;
  /** What the rows are, such as `accounts`. */
  label: string;
  rows: T[];
  columns: Column<T>[];
  id: (row: T) => string;
  empty: ReactNode;
  aside?: ReactNode;
  /** What Enter on a row does. */
  open?: (row: T) => void;
  sort?: string;
  limit?: number;
  /** Without search and tools, as part of another page. */
  plain?: boolean;
  /** The rows are what fits the search words already. */
  searched?: boolean;
}) {
  const navigate = useNavigate();
  const [words, setWords] = useParam('q');
  const [sort, setSort] = useParam('sort');
  const [cols, setCols] = useParam('cols');
  const [dialog] = useParam('dialog');
  const [which] = useParam('which');
  const narrow = useMediaQuery(NARROW, undefined, { getInitialValueInEffect: false });
  const clipboard = useClipboard();
  const [changed, setChanged] = useLocalStorage<Record<string, boolean>>({
    key: `encke-columns-${name}`,
    defaultValue: {},
    getInitialValueInEffect: false,
  });
  const box = useRef<HTMLDivElement>(null);
  const [active, setActive] = useState(-1);
  const [choosing, setChoosing] = useState(false);
  // A view names its columns in the address; else they are as they were chosen last.
  const wantedCols = plain || cols === '' ? null : cols.split(',');
  const isShown = (c: Column<T>) => wantedCols?.includes(c.key) ?? changed[c.key] ?? !c.hidden;
  const shownColumns = columns.filter((c, i) => i === 0 || c.label === '' || isShown(c));
  const toggleColumn = (column: Column<T>) => {
    const on = isShown(column);
    setChanged({ ...changed, [column.key]: !on });
    if (!wantedCols) return;
    const next = wantedCols.filter((key) => key !== column.key);
    setCols((on ? next : [...next, column.key]).join(',') || 'none');
  };

  const [key, backwards] = (plain ? '' : sort).startsWith('-')
    ? [sort.slice(1), true]
    : [plain ? '' : sort, false];
  const sorted = columns.find((c) => c.key === (key || (firstSort ?? columns[0]?.key)));
  const reverse = backwards !== (sorted?.descending ?? false);
  const found = useMemo(() => {
    const wanted =
      plain || searched || words.trim() === ''
        ? [...rows]
        : rows.filter((row) => matches(words, ...columns.map((c) => String(c.value(row)))));
    if (sorted) {
      const keyed = wanted.map((row) => [sorted.value(row), row] as const);
      const collator = new Intl.Collator(undefined, { numeric: true });
      keyed.sort(([a], [b]) =>
        typeof a === 'number' && typeof b === 'number' ? a - b : collator.compare(String(a), String(b)),
      );
      if (reverse) keyed.reverse();
      return keyed.map(([, row]) => row).slice(0, limit);
    }
    return wanted.slice(0, limit);
  }, [rows, columns, words, sorted, reverse, limit, plain, searched]);

  const virtual = useVirtualizer({
    count: found.length,
    getScrollElement: () => box.current,
    estimateSize: () => ROW,
    overscan: 12,
    initialRect: { width: 800, height: 600 },
  });
  // A dialog that the address asks for stands in its row, which has to be there.
  const asked = dialog && !plain ? found.findIndex((row) => id(row) === which) : -1;
  useEffect(() => {
    if (asked >= 0) virtual.scrollToIndex(asked);
  }, [asked, virtual]);
  const shown = virtual.getVirtualItems();
  const above = shown[0]?.start ?? 0;
  const below = Math.max(0, virtual.getTotalSize() - (shown.at(-1)?.end ?? 0));
  const least = shownColumns.reduce((sum, c) => sum + (c.width ?? 140), 0);

  const sortBy = (column: Column<T>) => {
    const next = sorted?.key === column.key && !backwards ? `-${column.key}` : column.key;
    navigate({ to: '.', search: (old) => ({ ...old, sort: next }), replace: true });
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
      const next = Math.min(found.length - 1, Math.max(0, active + (event.key === 'ArrowDown' ? 1 : -1)));
      event.preventDefault();
      setActive(next);
      virtual.scrollToIndex(next);
    } else if (event.target === box.current && (event.key === 'Home' || event.key === 'End')) {
      const next = event.key === 'Home' ? 0 : found.length - 1;
      event.preventDefault();
      setActive(next);
      virtual.scrollToIndex(next);
    } else if (event.key === 'Enter' && event.target === box.current) {
      const row = found[active];
      if (row) open?.(row);
    }
  };
  const texts = () => {
    const told = shownColumns.filter((c) => c.label !== '');
    return [told.map((c) => c.label), ...found.map((row) => told.map((c) => c.value(row)))];
  };
  const choosable = columns.slice(1).filter((c) => c.label !== '');

  return (
    <div>
      {!plain && (
        <Group gap="xs" mb="xs" className="tools">
          <TextInput
            size="xs"
            w={180}
            placeholder={t('Search')}
            aria-label={t('Search {what}', { what: label })}
            value={words}
            onChange={(e) => setWords(e.currentTarget.value)}
            data-search
          />
          {aside}
          <Group gap={4} ml="auto">
            <Text size="xs" c="dimmed" aria-live="polite">
              {found.length === rows.length
                ? count(rows.length)
                : t('{n} of {all}', { n: found.length, all: rows.length })}
            </Text>
            <Views
              cols={
                choosable
                  .filter(isShown)
                  .map((c) => c.key)
                  .join(',') || 'none'
              }
            />
            <Popover opened={choosing} onChange={setChoosing} position="bottom-end" shadow="sm">
              <Popover.Target>
                <ActionIcon
                  aria-label={t('Columns')}
                  title={t('Columns')}
                  onClick={() => setChoosing(!choosing)}
                >
                  <Columns size={16} />
                </ActionIcon>
              </Popover.Target>
              <Popover.Dropdown p="xs">
                <Stack gap={6}>
                  {choosable.map((c) => (
                    <Checkbox
                      key={c.key}
                      size="xs"
                      label={c.label}
                      checked={isShown(c)}
                      onChange={() => toggleColumn(c)}
                    />
                  ))}
                </Stack>
              </Popover.Dropdown>
            </Popover>
            <Menu position="bottom-end">
              <Menu.Target>
                <ActionIcon aria-label={t('Save or copy')} title={t('Save or copy')}>
                  {clipboard.copied ? <Check size={16} /> : <Download size={16} />}
                </ActionIcon>
              </Menu.Target>
              <Menu.Dropdown>
                <Menu.Item onClick={() => download(`${name}.csv`, csv(texts()))}>
                  {t('Save as CSV')}
                </Menu.Item>
                <Menu.Item
                  onClick={async () => {
                    const { xlsx } = await import('../lib/xlsx');
                    saveBlob(`${name}.xlsx`, xlsx(texts()));
                  }}
                >
                  {t('Save as XLSX')}
                </Menu.Item>
                <Menu.Item onClick={() => clipboard.copy(tabbed(texts()))}>{t('Copy the table')}</Menu.Item>
              </Menu.Dropdown>
            </Menu>
          </Group>
        </Group>
      )}
      {rows.length === 0 ? (
        <Empty>{searched && words.trim() !== '' ? t('Nothing fits the search.') : empty}</Empty>
      ) : found.length === 0 ? (
        <Empty>{t('Nothing fits the search.')}</Empty>
      ) : narrow ? (
        <>
          {!plain && found.length > 1 && (
            <Select
              size="xs"
              mb="xs"
              aria-label={t('Sorted by')}
              value={(reverse ? '-' : '') + (sorted?.key ?? '')}
              onChange={(next) => {
                const by = columns.find((c) => c.key === next?.replace('-', ''));
                if (!by) return;
                const down = next?.startsWith('-') ?? false;
                setSort(down === (by.descending ?? false) ? by.key : `-${by.key}`);
              }}
              data={shownColumns
                .filter((c) => c.label !== '')
                .flatMap((c) => [
                  { value: c.key, label: t('{name}, ascending', { name: c.label }) },
                  { value: `-${c.key}`, label: t('{name}, descending', { name: c.label }) },
                ])}
            />
          )}
          <CardList label={label} rows={found} columns={shownColumns} id={id} asked={asked} />
        </>
      ) : (
        <div
          ref={box}
          className={plain ? 'rows short' : 'rows'}
          role="region"
          aria-label={label}
          tabIndex={0}
          onKeyDown={onKeyDown}
        >
          <Table
            highlightOnHover
            verticalSpacing={0}
            miw={least}
            layout="fixed"
            aria-rowcount={found.length + 1}
          >
            <colgroup>
              {shownColumns.map((c) => (
                <col key={c.key} style={{ width: c.width }} />
              ))}
            </colgroup>
            <Table.Thead>
              <Table.Tr>
                {shownColumns.map((c) => {
                  const on = sorted?.key === c.key;
                  return (
                    <Table.Th
                      key={c.key}
                      data-end={c.label === '' || undefined}
                      ta={c.right ? 'right' : undefined}
                      aria-sort={on ? (reverse ? 'descending' : 'ascending') : undefined}
                    >
                      {plain || c.label === '' ? (
                        c.label
                      ) : (
                        <button type="button" className="sort" onClick={() => sortBy(c)}>
                          {c.label}
                          {on && <span aria-hidden>{reverse ? ' ↓' : ' ↑'}</span>}
                        </button>
                      )}
                    </Table.Th>
                  );
                })}
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {above > 0 && <tr aria-hidden style={{ height: above }} />}
              {shown.map(({ index }) => {
                const row = found[index];
                if (row === undefined) return null;
                return (
                  <Table.Tr key={id(row)} data-active={index === active || undefined} h={ROW}>
                    {shownColumns.map((c) => (
                      <Table.Td
                        key={c.key}
                        data-end={c.label === '' || undefined}
                        ta={c.right ? 'right' : undefined}
                      >
                        {c.cell ? c.cell(row) : c.value(row)}
                      </Table.Td>
                    ))}
                  </Table.Tr>
                );
              })}
              {below > 0 && <tr aria-hidden style={{ height: below }} />}
            </Table.Tbody>
          </Table>
        </div>
      )}
    </div>
  );
}
