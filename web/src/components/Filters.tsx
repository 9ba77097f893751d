// What a list is confined to: choices among its tools, and what was chosen elsewhere with a way to drop it.
import { Button, Select } from '@mantine/core';
import type { ReactNode } from 'react';
import { t } from '../i18n';
import { Close } from './icons';

type Choice = { value: string; set: (value: string | null) => void; width?: number };

/** One choice of several; the first one is what stands without a choice. */
export function Filter({
  label,
  value,
  set,
  width = 150,
  options,
}: Choice & { label: string; options: [value: string, label: string][] }) {
  return (
    <Select
      w={width}
      aria-label={label}
      value={value}
      onChange={set}
      data={options.map(([value, label]) => ({ value, label }))}
    />
  );
}

/** How many days a list looks back; `any` is the word for all of them. */
export function DaysFilter({ any, days, ...choice }: Choice & { any?: string; days: string[] }) {
  const options = days.map((n): [string, string] => [
    n,
    n === '1' ? t('Last 24 hours') : t('Last {n} days', { n }),
  ]);
  return <Filter label={t('Time')} options={any ? [['', any], ...options] : options} {...choice} />;
}

/** Something that a link chose, and a way to show the rest as well. */
export function Chosen({ drop, more, children }: { drop: () => void; more: string; children: ReactNode }) {
  return (
    <Button variant="light" rightSection={<Close size={14} />} title={more} onClick={drop}>
      {children}
      <span className="unseen">{` ${more}`}</span>
    </Button>
  );
}
