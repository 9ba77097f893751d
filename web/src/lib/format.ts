// Numbers and times for people, in their language.
import { language, t } from '../i18n';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

export const count = (n: number) => n.toLocaleString(language());

/** A size to the last byte. */
export const exactBytes = (n: number) => (n < 1024 ? bytes(n) : `${bytes(n)} (${count(n)} B)`);

export function bytes(n: number): string {
  let value = Math.max(0, n);
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  const text = value.toLocaleString(language(), {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
    useGrouping: false,
  });
  return `${text} ${UNITS[unit]}`;
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
  if (!unix) return t('never');
  let value = Math.round(unix - now);
  if (Math.abs(value) < 5) return t('just now');
  for (const [size, unit] of STEPS) {
    if (Math.abs(value) < size) return new Intl.RelativeTimeFormat(language()).format(value, unit);
    value = Math.round(value / size);
  }
  return '';
}

export function exact(unix: number): string {
  return unix ? new Date(unix * 1000).toLocaleString(language()) : '';
}

export function clock(unix: number): string {
  return new Date(unix * 1000).toLocaleTimeString(language());
}

export function statusName(status: number): string {
  switch (status) {
    case 5000:
      return t('Success');
    case 6001:
      return t('Running');
    case 6002:
      return t('Revived');
    case 6003:
      return t('Waiting to retry');
    case 6004:
      return t('Starting');
    case 7000:
      return t('Timeout');
    case 7001:
      return t('Warning');
    case 7002:
      return t('Error');
    case 7003:
      return t('Quota exceeded');
    case 7004:
      return t('Missed');
    case 7005:
      return t('Cancelled');
    case 7006:
      return t('Skipped');
    case 7007:
      return t('Abandoned');
    default:
      return String(status);
  }
}

export const STATUSES = [5000, 6001, 6002, 6003, 6004, 7000, 7001, 7002, 7003, 7004, 7005, 7006, 7007];

export type Tone = 'good' | 'busy' | 'warn' | 'bad' | 'quiet';

export function statusTone(status: number): Tone {
  if (status < 6000) return 'good';
  if (status < 7000) return 'busy';
  if (status === 7001) return 'warn';
  if (status === 7005 || status === 7006) return 'quiet';
  return 'bad';
}

export function className(classification: number): string {
  switch (classification) {
    case 4001:
      return t('Backup');
    case 4002:
      return t('Restore');
    case 4003:
      return t('Retention');
    case 4004:
      return t('Unlock');
    case 4005:
      return t('Delete snapshot');
    case 4006:
      return t('Measure');
    case 4007:
      return t('Update');
    case 4008:
      return t('Import');
    case 4009:
      return t('Rebuild index');
    case 4010:
      return t('Deep verify');
    case 4011:
      return t('Uninstall');
    default:
      return t('Other');
  }
}

export const CLASSES = [4001, 4002, 4003, 4004, 4005, 4006, 4007, 4008, 4009, 4010, 4011];

/** Rows whose text has all the words. */
export function matches(words: string, ...texts: (string | undefined)[]): boolean {
  const text = texts.join(' ').toLowerCase();
  return words
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}

/** Rows as a CSV file that spreadsheets read; a text they would take for a formula is quoted. */
export function csv(rows: (string | number)[][]): string {
  const cell = (value: string | number) => {
    if (typeof value === 'number') return String(value);
    const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return `\uFEFF${rows.map((row) => row.map(cell).join(',')).join('\r\n')}\r\n`;
}

/** Rows as text that spreadsheets take from the clipboard. */
export const tabbed = (rows: (string | number)[][]): string =>
  rows.map((row) => row.map((value) => String(value).replace(/[\t\r\n]+/g, ' ')).join('\t')).join('\n');

/** Hands a text to the browser as a file. */
export const download = (name: string, content: string, media = 'text/csv') =>
  saveBlob(name, new Blob([content], { type: media }));

/** Hands the reader a file. */
export function saveBlob(name: string, content: Blob) {
  const address = URL.createObjectURL(content);
  const link = document.createElement('a');
  link.href = address;
  link.download = name;
  link.click();
  URL.revokeObjectURL(address);
}

/** The id of something new. `randomUUID` is missing on pages that come without TLS. */
export function newId(): string {
  const hex = Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) =>
    b.toString(16).padStart(2, '0'),
  ).join('');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20)}`;
}

/** A password that nobody guesses: 20 characters without those that look alike. */
export function newPassword(): string {
  const letters = 'abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789';
  return Array.from(crypto.getRandomValues(new Uint32Array(20)), (n) => letters[n % letters.length]).join('');
}
