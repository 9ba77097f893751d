// Numbers and times for people.

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

export function bytes(n: number): string {
  let value = Math.max(0, n);
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

export function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

const STEPS: [number, Intl.RelativeTimeFormatUnit][] = [
  [60, 'second'],
  [60, 'minute'],
  [24, 'hour'],
  [30, 'day'],
  [12, 'month'],
  [Number.POSITIVE_INFINITY, 'year'],
];

export function relative(unix: number, now = Date.now() / 1000): string {
  if (!unix) return 'never';
  let value = Math.round(unix - now);
  if (Math.abs(value) < 5) return 'just now';
  for (const [size, unit] of STEPS) {
    if (Math.abs(value) < size) return new Intl.RelativeTimeFormat('en').format(value, unit);
    value = Math.round(value / size);
  }
  return '';
}

export function exact(unix: number): string {
  return unix ? new Date(unix * 1000).toLocaleString() : '';
}

const STATUSES: Record<number, string> = {
  5000: 'Success',
  6001: 'Running',
  6002: 'Revived',
  6003: 'Waiting to retry',
  6004: 'Starting',
  7000: 'Timeout',
  7001: 'Warning',
  7002: 'Error',
  7003: 'Quota exceeded',
  7004: 'Missed',
  7005: 'Cancelled',
  7006: 'Skipped',
  7007: 'Abandoned',
};

export function statusName(status: number): string {
  return STATUSES[status] ?? String(status);
}

export type Tone = 'good' | 'busy' | 'warn' | 'bad' | 'quiet';

export function statusTone(status: number): Tone {
  if (status < 6000) return 'good';
  if (status < 7000) return 'busy';
  if (status === 7001) return 'warn';
  if (status === 7005 || status === 7006) return 'quiet';
  return 'bad';
}

const CLASSES: Record<number, string> = {
  4001: 'Backup',
  4002: 'Restore',
  4003: 'Retention',
  4010: 'Deep verify',
};

export function className(classification: number): string {
  return CLASSES[classification] ?? 'Other';
}

/** Rows whose text has all the words. */
export function matches(words: string, ...texts: (string | undefined)[]): boolean {
  const text = texts.join(' ').toLowerCase();
  return words
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}
