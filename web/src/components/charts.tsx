// Small charts: bars of parts along days, a line with its area, one bar of shares. Each column can be reached by the
// arrow keys and says its numbers; below every chart the same numbers stand as a table.
import { Group, Table, Text } from '@mantine/core';
import { useRouter } from '@tanstack/react-router';
import { type KeyboardEvent, type ReactNode, useRef, useState } from 'react';
import { t } from '../i18n';
import type { Tone } from '../lib/format';

export type Part = { name: string; value: number; tone: Tone };
/** One place along a chart, with an address where its name leads. */
export type Place = { key: string | number; name: string; parts: Part[]; to?: string };

type Format = (n: number) => string;

const sumOf = (place: Place) => place.parts.reduce((sum, p) => sum + p.value, 0);

/** A round number at or above the largest, so that the scale reads well. */
export function roundTop(most: number, base = 10): number {
  if (most <= 0) return 1;
  const unit = base ** Math.floor(Math.log(most) / Math.log(base));
  const steps = base === 10 ? [1, 2, 5, 10] : [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
  return unit * (steps.find((step) => step * unit >= most) ?? base);
}

function AsTable({ label, places, format }: { label: string; places: Place[]; format: Format }) {
  const names = [...new Set(places.flatMap((p) => p.parts.map((part) => part.name)))];
  const [opened, setOpened] = useState(false);
  return (
    <details className="astable" onToggle={(e) => setOpened(e.currentTarget.open)}>
      <summary>{t('As a table')}</summary>
      {opened && (
        <div className="rows" role="region" aria-label={label} tabIndex={0}>
          <Table verticalSpacing={2}>
            <Table.Thead>
              <Table.Tr>
                <Table.Th>{t('Day')}</Table.Th>
                {names.map((name) => (
                  <Table.Th key={name} ta="right">
                    {name}
                  </Table.Th>
                ))}
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {places.map((place) => (
                <Table.Tr key={place.key}>
                  <Table.Th scope="row">{place.name}</Table.Th>
                  {names.map((name) => {
                    const value = place.parts.find((p) => p.name === name)?.value;
                    return (
                      <Table.Td key={name} ta="right">
                        {value === undefined ? '' : format(value)}
                      </Table.Td>
                    );
                  })}
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </div>
      )}
    </details>
  );
}

/** The frame of a chart along days: scale, columns that say what they hold, names of the first and the last. */
function Plot({
  label,
  places,
  top,
  format,
  exact = format,
  column,
  children,
}: {
  label: string;
  places: Place[];
  top: number;
  format: Format;
  /** How a column says what it holds. */
  exact?: Format;
  /** What is drawn inside of a column. */
  column?: (place: Place) => ReactNode;
  /** What is drawn behind the columns. */
  children?: ReactNode;
}) {
  const { history } = useRouter();
  const box = useRef<HTMLDivElement>(null);
  const [at, setAt] = useState(places.length - 1);
  const onKeyDown = (event: KeyboardEvent) => {
    const last = places.length - 1;
    const next = {
      ArrowLeft: Math.max(0, at - 1),
      ArrowRight: Math.min(last, at + 1),
      Home: 0,
      End: last,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    setAt(next);
    (box.current?.children[next] as HTMLElement | undefined)?.focus();
  };
  return (
    <div className="plot" role="group" aria-label={label}>
      <span className="scale" aria-hidden>
        {format(top)}
      </span>
      <div className="field">
        {children}
        <div className="columns" ref={box}>
          {places.map((place, i) => {
            const words = place.parts.filter((p) => p.value > 0).map((p) => `${p.name}: ${exact(p.value)}`);
            const told = [place.name, ...(words.length > 0 ? words : [t('nothing')])];
            const common = {
              tabIndex: i === at ? 0 : -1,
              className: 'column',
              'aria-label': told.join(', '),
              // Shown by the style sheet, so that it is not read twice.
              'data-tip': told.join('\n'),
              'data-side': i < places.length / 2 ? 'left' : 'right',
              onKeyDown,
              onFocus: () => setAt(i),
            };
            return place.to ? (
              <a
                key={place.key}
                href={place.to}
                {...common}
                onClick={(e) => {
                  if (e.metaKey || e.ctrlKey || e.shiftKey) return;
                  e.preventDefault();
                  history.push(place.to ?? '/');
                }}
              >
                {column?.(place)}
              </a>
            ) : (
              <div key={place.key} role="img" {...common}>
                {column?.(place)}
              </div>
            );
          })}
        </div>
      </div>
      <div className="ends" aria-hidden>
        <span>{places[0]?.name}</span>
        <span>{places.at(-1)?.name}</span>
      </div>
    </div>
  );
}

function Legend({ parts, format }: { parts: Part[]; format: Format }) {
  return (
    <Group gap="0 12px">
      {parts.map((p) => (
        <Text key={p.name} size="xs" className="legend" data-tone={p.tone}>
          {p.name} {format(p.value)}
        </Text>
      ))}
    </Group>
  );
}

/** Bars whose parts stand upon each other. */
export function StackedBars({ label, places, format }: { label: string; places: Place[]; format: Format }) {
  const top = roundTop(Math.max(0, ...places.map(sumOf)));
  const sums = new Map<string, Part>();
  for (const part of places.flatMap((p) => p.parts)) {
    const sum = sums.get(part.name) ?? { ...part, value: 0 };
    sums.set(part.name, { ...sum, value: sum.value + part.value });
  }
  return (
    <div>
      <Plot
        label={label}
        places={places}
        top={top}
        format={format}
        column={(place) => (
          <span className="stack" aria-hidden>
            {place.parts.map((p) => (
              <span key={p.name} data-tone={p.tone} style={{ height: `${(100 * p.value) / top}%` }} />
            ))}
          </span>
        )}
      />
      <Legend parts={[...sums.values()].filter((p) => p.value > 0)} format={format} />
      <AsTable label={label} places={places} format={format} />
    </div>
  );
}

/** One value along days, as a line above its area. `scale` is the base of the units: 1024 for sizes. */
export function Line({
  label,
  places,
  format,
  exact,
  scale = 10,
  note,
}: {
  label: string;
  places: Place[];
  format: Format;
  exact?: Format;
  scale?: number;
  note?: ReactNode;
}) {
  const values = places.map(sumOf);
  const top = roundTop(Math.max(0, ...values), scale);
  const x = (at: number) => (100 * (at + 0.5)) / places.length;
  const line = values.map((value, at) => `${x(at)},${100 - (100 * value) / top}`).join(' ');
  return (
    <div>
      <Plot
        label={label}
        places={places}
        top={top}
        format={format}
        exact={exact}
        column={() => <span className="rule" />}
      >
        <svg viewBox="0 0 100 100" preserveAspectRatio="none" className="growth" aria-hidden>
          <polygon points={`${x(0)},100 ${line} ${x(places.length - 1)},100`} />
          <polyline points={line} />
        </svg>
      </Plot>
      {note && (
        <Text size="xs" c="dimmed">
          {note}
        </Text>
      )}
      <AsTable label={label} places={places} format={format} />
    </div>
  );
}

/** Shares of a whole in one bar, each part a way to what it counts. */
export function Shares({
  label,
  parts,
  format,
}: {
  label: string;
  parts: (Part & { to: string })[];
  format: Format;
}) {
  const { history } = useRouter();
  const shown = parts.filter((p) => p.value > 0);
  return (
    <nav className="shares" aria-label={label}>
      {shown.map((p) => (
        <a
          key={p.name}
          href={p.to}
          data-tone={p.tone}
          style={{ flexGrow: p.value }}
          title={`${p.name}: ${format(p.value)}`}
          aria-label={`${p.name}: ${format(p.value)}`}
          onClick={(e) => {
            if (e.metaKey || e.ctrlKey || e.shiftKey) return;
            e.preventDefault();
            history.push(p.to);
          }}
        />
      ))}
    </nav>
  );
}
