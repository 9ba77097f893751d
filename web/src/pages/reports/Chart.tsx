// A report's first rows as bars or lines: one series for each column of numbers.
import { Group, Text } from '@mantine/core';
import type { Cell, Chart as Choice, Preview } from '../../api/reports';
import { language, t } from '../../i18n';
import { count } from '../../lib/format';

const [WIDTH, HEIGHT] = [600, 160];
/** Colours that differ in light and dark. */
const TONES = ['busy', 'good', 'warn', 'quiet', 'bad'];

export function Chart({ chart, preview }: { chart: Choice; preview: Preview }) {
  const { Columns, Rows } = preview;
  const along = Columns.findIndex((c) => c.key === chart.label);
  const series = Columns.map((c, at) => ({ ...c, at }))
    .filter((c) => c.at !== along && (c.type === 'NUMBER' || c.type === 'AMOUNT'))
    .slice(0, TONES.length)
    .map((c, i) => ({ ...c, tone: TONES[i] }));
  const column = Columns[along];
  if (!column || series.length === 0 || Rows.length === 0) return null;
  const valueOf = (row: Cell[], at: number) => (typeof row[at] === 'number' ? row[at] : null);
  const values = Rows.flatMap((row) => series.map((s) => valueOf(row, s.at) ?? 0));
  const [least, most] = [Math.min(0, ...values), Math.max(0, ...values)];
  const y = (value: number) => HEIGHT - ((value - least) / (most - least || 1)) * HEIGHT;
  const step = WIDTH / Rows.length;
  const bar = (step * 0.8) / series.length;
  const nameOf = (cell: Cell | undefined) =>
    typeof cell === 'number' && (column.type === 'DATE' || column.type === 'DATETIME')
      ? new Date(cell).toLocaleDateString(language(), { timeZone: 'UTC' })
      : String(cell ?? '–');
  const [first, last] = [Rows[0], Rows.at(-1)].map((row) => nameOf(row?.[along]));
  return (
    <figure style={{ margin: '0 0 var(--mantine-spacing-md)' }}>
      <div className="plot">
        <span className="scale" aria-hidden>
          {count(most)}
          {least < 0 && <span>{count(least)}</span>}
        </span>
        <div className="field">
          <svg
            viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
            preserveAspectRatio="none"
            className="chart"
            role="img"
            aria-label={t('Chart of {values} by {name}', {
              values: series.map((s) => s.name).join(', '),
              name: column.name,
            })}
          >
            {chart.kind === 'line' &&
              series.map((s) => (
                <polyline
                  key={s.key}
                  data-tone={s.tone}
                  points={Rows.map((row, i) => [(i + 0.5) * step, valueOf(row, s.at)] as const)
                    .filter(([, value]) => value !== null)
                    .map(([x, value]) => `${x},${y(value ?? 0)}`)
                    .join(' ')}
                />
              ))}
            {Rows.map((row, i) => (
              <g key={i}>
                <title>
                  {[nameOf(row[along]), ...series.map((s) => `${s.name}: ${row[s.at] ?? '–'}`)].join('\n')}
                </title>
                <rect x={i * step} y={0} width={step} height={HEIGHT} fill="transparent" />
                {chart.kind === 'bar' &&
                  series.map((s, k) => {
                    const [a, b] = [y(0), y(valueOf(row, s.at) ?? 0)];
                    return (
                      <rect
                        key={s.key}
                        data-tone={s.tone}
                        x={i * step + step * 0.1 + k * bar}
                        y={Math.min(a, b)}
                        width={bar}
                        height={Math.abs(a - b)}
                      />
                    );
                  })}
              </g>
            ))}
          </svg>
        </div>
      </div>
      <figcaption>
        <Group justify="space-between">
          <Text size="xs">{first}</Text>
          <Group gap="sm">
            {series.map((s) => (
              <Text key={s.key} size="xs" className="legend" data-tone={s.tone}>
                {s.name}
              </Text>
            ))}
          </Group>
          <Text size="xs">{last}</Text>
        </Group>
      </figcaption>
    </figure>
  );
}
