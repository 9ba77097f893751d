import { describe, expect, it } from 'vitest';
import { csv } from './format';
import { healthOf } from './health';
import { withFlag, withValues } from './items';
import { newRange, newSchedule, rangeText, retentionText, scheduleText, secondsOf, timeOf } from './schedule';
import { searchOf } from './search';

describe('schedules and retention', () => {
  it('are told in words', () => {
    expect(scheduleText({ ...newSchedule(8011), SecondsPast: secondsOf('22:15') })).toBe('daily at 22:15');
    expect(scheduleText({ ...newSchedule(8013), SecondsPast: 86_400 + 60 })).toBe('Monday at 00:01');
    expect(scheduleText({ ...newSchedule(8015), SecondsPast: 5400 })).toBe('every 90 minutes');
    expect(scheduleText({ ...newSchedule(8015), SecondsPast: 3600 })).toBe('every hour');
    expect(rangeText({ ...newRange(907), Jobs: 14 })).toBe('one per day, for 14 days');
    expect(rangeText({ ...newRange(902), Days: 0, Weeks: 2 })).toBe('everything of the last 2 weeks');
    expect(retentionText({ Mode: 801, Ranges: [newRange(907)] })).toBe('Keep everything');
    expect(retentionText({ Mode: 802, Ranges: [] })).toBe('Keep nothing');
  });

  it('read a time of the day back', () => {
    for (const time of ['00:00', '09:05', '23:59']) expect(timeOf(secondsOf(time))).toBe(time);
  });
});

describe('documents', () => {
  it('replace the values of a prefix and keep the rest', () => {
    const props = { INCLUDE1: '/a', INCLUDE7: '/b', EXCLUDE1: '*.tmp', USE_WIN_VSS: '1' };
    expect(withValues(props, 'INCLUDE', ['/c'])).toEqual({
      INCLUDE1: '/c',
      EXCLUDE1: '*.tmp',
      USE_WIN_VSS: '1',
    });
    expect(withFlag(props, 'USE_WIN_VSS', false)).not.toHaveProperty('USE_WIN_VSS');
  });

  it('are exported without formulas', () => {
    expect(csv([['=1+1', 'a "b", c', 3]])).toBe('\uFEFF\'=1+1,"a ""b"", c",3\r\n');
  });

  it('tell how backups stand', () => {
    const job = (Status: number, StartTime: number) => ({
      Statistics: { LastBackupJob: { Status, StartTime } },
    });
    const account = (Sources: object, more = {}) => healthOf({ Sources, ...more } as never, 1_000_000);
    expect(account({})).toBe('never');
    expect(account({ a: job(5000, 999_000), b: job(7002, 999_000) })).toBe('failing');
    expect(account({ a: job(5000, 999_000), b: job(7001, 999_000) })).toBe('warning');
    expect(account({ a: job(5000, 500_000) })).toBe('late');
    expect(account({ a: job(5000, 999_000) })).toBe('fine');
    expect(account({ a: job(7002, 999_000) }, { IsSuspended: true })).toBe('suspended');
  });

  it('take addresses as texts', () => {
    expect(searchOf({ q: 12, tab: 'items', sort: '', x: { a: 1 } })).toEqual({ q: '12', tab: 'items' });
  });
});
