// A list on a phone: each row a card, since a wide table hides half of itself there. Only the cards in view exist.
import { useWindowVirtualizer } from '@tanstack/react-virtual';
import { useEffect, useLayoutEffect, useRef, useState } from 'react';
import type { Column } from './DataTable';

/** How high a card is thought to be until it has been measured, in pixels. */
const CARD = 120;

export function CardList<T>({
  label,
  rows,
  columns,
  id,
  asked,
}: {
  label: string;
  rows: T[];
  columns: Column<T>[];
  id: (row: T) => string;
  /** A card that has to be there, by its place in the list; none below 0. */
  asked: number;
}) {
  const box = useRef<HTMLUListElement>(null);
  const [scrollMargin, setMargin] = useState(0);
  // What stands above may grow, such as a chart that has been loaded.
  useLayoutEffect(() => {
    const top = box.current?.getBoundingClientRect().top ?? 0;
    setMargin(Math.round(top + window.scrollY));
  });
  const virtual = useWindowVirtualizer({
    count: rows.length,
    estimateSize: () => CARD,
    overscan: 6,
    scrollMargin,
    initialRect: { width: 390, height: 800 },
  });
  useEffect(() => {
    if (asked >= 0) virtual.scrollToIndex(asked);
  }, [asked, virtual]);
  const [first, ...rest] = columns;
  const actions = rest.filter((c) => c.label === '');
  const facts = rest.filter((c) => c.label !== '');
  const show = (c: Column<T>, row: T) => (c.cell ? c.cell(row) : c.value(row));
  return (
    <ul ref={box} className="cards" aria-label={label} style={{ height: virtual.getTotalSize() }}>
      {virtual.getVirtualItems().map(({ index, start }) => {
        const row = rows[index];
        if (row === undefined || !first) return null;
        return (
          <li
            key={id(row)}
            data-index={index}
            ref={virtual.measureElement}
            style={{ transform: `translateY(${start - scrollMargin}px)` }}
          >
            <div className="rowcard">
              <div className="top">
                <div className="name">{show(first, row)}</div>
                {actions.map((c) => (
                  <div key={c.key}>{show(c, row)}</div>
                ))}
              </div>
              <dl>
                {facts
                  .filter((c) => c.live || c.value(row) !== '')
                  .map((c) => (
                    <div key={c.key}>
                      <dt>{c.label}</dt>
                      <dd>{show(c, row)}</dd>
                    </div>
                  ))}
              </dl>
            </div>
          </li>
        );
      })}
    </ul>
  );
}
