// Schedules and retention in words (reference, sections 13 and 16).
import type { Retention, RetentionRange, Rule, Schedule } from '../api/types';
import { language, plural, t } from '../i18n';
import { exact } from './format';

export const ONCE = 8010;
export const DAILY = 8011;
export const HOURLY = 8012;
export const WEEKLY = 8013;
export const MONTHLY = 8014;
export const PERIODIC = 8015;
export const YEARLY = 8016;

const DAY = 86_400;

export const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'] as const;

/** Names of weekdays and months in the reader's language; 2023 began on a Sunday. */
export const dayName = (day: number, style: 'long' | 'short' = 'long') =>
  new Date(Date.UTC(2023, 0, 1 + day)).toLocaleDateString(language(), { weekday: style, timeZone: 'UTC' });
export const monthName = (month: number) =>
  new Date(Date.UTC(2023, month - 1, 1)).toLocaleDateString(language(), { month: 'long', timeZone: 'UTC' });

const two = (n: number) => String(n).padStart(2, '0');

/** Seconds after midnight as `HH:MM`, and back. */
export const timeOf = (seconds: number) => {
  const s = ((seconds % DAY) + DAY) % DAY;
  return `${two(Math.floor(s / 3600))}:${two(Math.floor((s % 3600) / 60))}`;
};
export const secondsOf = (time: string) => {
  const [hours = 0, minutes = 0] = time.split(':').map(Number);
  return hours * 3600 + minutes * 60;
};

export function newSchedule(frequency = DAILY): Schedule {
  return {
    FrequencyType: frequency,
    SecondsPast:
      frequency === PERIODIC
        ? 4 * 3600
        : frequency === ONCE
          ? Math.ceil(Date.now() / 3_600_000) * 3600 + 3600
          : frequency === HOURLY
            ? 0
            : 22 * 3600,
    Offset: 0,
    RandomDelaySecs: 0,
    RestrictRuntime: false,
    RestrictDays: false,
    FromTime: { Hour: 0, Minutes: 0 },
    ToTime: { Hour: 0, Minutes: 0 },
    DaysSelect: {
      Sunday: false,
      Monday: false,
      Tuesday: false,
      Wednesday: false,
      Thursday: false,
      Friday: false,
      Saturday: false,
    },
    SelectedDay: 1,
    SelectedMonth: 1,
  };
}

/** A schedule in a few words. */
export function scheduleText(s: Schedule): string {
  const time = timeOf(s.SecondsPast);
  switch (s.FrequencyType) {
    case ONCE:
      return t('once at {time}', { time: exact(s.SecondsPast) });
    case DAILY:
      return t('daily at {time}', { time });
    case HOURLY:
      return plural(Math.floor(s.SecondsPast / 60), 'hourly, {n} minute past', 'hourly, {n} minutes past');
    case WEEKLY:
      return t('{day} at {time}', { day: dayName(Math.floor(s.SecondsPast / DAY) % 7), time });
    case MONTHLY:
      return t('monthly on day {day} at {time}', { day: s.SelectedDay || 1, time });
    case PERIODIC:
      return s.SecondsPast % 3600 === 0
        ? plural(s.SecondsPast / 3600, 'every hour', 'every {n} hours')
        : plural(Math.round(s.SecondsPast / 60), 'every minute', 'every {n} minutes');
    case YEARLY:
      return t('yearly on {day} {month} at {time}', {
        day: s.SelectedDay || 1,
        month: monthName(s.SelectedMonth || 1),
        time,
      });
    default:
      return String(s.FrequencyType);
  }
}

export const ruleText = (rule: Rule) =>
  (rule.Schedules ?? []).length === 0 ? t('by hand') : (rule.Schedules ?? []).map(scheduleText).join(', ');

export const KEEP_ALL = 801;
export const KEEP_SOME = 802;

export const keepAll = (): Retention => ({ Mode: KEEP_ALL, Ranges: [] });

export const newRange = (type: number): RetentionRange => ({
  Type: type,
  Jobs: 7,
  Days: 7,
  Weeks: type === 902 ? 0 : 4,
  Months: type === 902 ? 0 : 12,
  Years: type === 902 ? 0 : 3,
  Timestamp: Math.floor(Date.now() / 1000 / DAY) * DAY,
  WeekOffset: 0,
  MonthOffset: 1,
  YearOffset: 1,
});

export const RANGES = [900, 907, 908, 909, 910, 902, 901, 903, 906, 905, 911];

export function rangeName(type: number): string {
  switch (type) {
    case 900:
      return t('The newest backups');
    case 901:
      return t('Everything since a date');
    case 902:
      return t('Everything of a time');
    case 903:
      return t('First backup of each day');
    case 905:
      return t('First backup of a day of the month');
    case 906:
      return t('First backup of a weekday');
    case 907:
      return t('One per day');
    case 908:
      return t('One per week');
    case 909:
      return t('One per month');
    case 910:
      return t('One per year');
    case 911:
      return t('First backup of each year');
    default:
      return String(type);
  }
}

export function rangeText(r: RetentionRange): string {
  switch (r.Type) {
    case 900:
      return plural(r.Jobs, 'the newest backup', 'the {n} newest backups');
    case 901:
      return t('everything since {date}', {
        date: new Date(r.Timestamp * 1000).toLocaleDateString(language()),
      });
    case 902:
      return t('everything of the last {span}', {
        span: [
          r.Days > 0 ? plural(r.Days, '{n} day', '{n} days') : '',
          r.Weeks > 0 ? plural(r.Weeks, '{n} week', '{n} weeks') : '',
          r.Months > 0 ? plural(r.Months, '{n} month', '{n} months') : '',
          r.Years > 0 ? plural(r.Years, '{n} year', '{n} years') : '',
        ]
          .filter(Boolean)
          .join(', '),
      });
    case 903:
      return plural(r.Days, 'the first of the last day', 'the first of each of the last {n} days');
    case 905:
      return plural(
        r.Months,
        'the first on day {day} of the last month',
        'the first on day {day} of each of the last {n} months',
        { day: r.MonthOffset },
      );
    case 906:
      return plural(
        r.Weeks,
        'the first {day} of the last week',
        'the first {day} of each of the last {n} weeks',
        { day: dayName(r.WeekOffset) },
      );
    case 907:
      return plural(r.Jobs, 'one per day, for {n} day', 'one per day, for {n} days');
    case 908:
      return plural(r.Jobs, 'one per week, for {n} week', 'one per week, for {n} weeks');
    case 909:
      return plural(r.Jobs, 'one per month, for {n} month', 'one per month, for {n} months');
    case 910:
      return plural(r.Jobs, 'one per year, for {n} year', 'one per year, for {n} years');
    case 911:
      return plural(r.Years, 'the first of the last year', 'the first of each of the last {n} years');
    default:
      return String(r.Type);
  }
}

export const retentionText = (r: Retention | undefined) =>
  !r || r.Mode !== KEEP_SOME
    ? t('Keep everything')
    : r.Ranges.length === 0
      ? t('Keep nothing')
      : t('Keep {what}', { what: r.Ranges.map(rangeText).join('; ') });
