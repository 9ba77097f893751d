import { describe, expect, it } from 'vitest';
import { errorOf } from '../api/client';
import { staleKeys } from '../api/events';
import { bytes, duration, matches, relative, statusName, statusTone } from './format';

describe('formats', () => {
  it('shows sizes in binary units', () => {
    expect(bytes(0)).toBe('0 B');
    expect(bytes(1536)).toBe('1.5 KiB');
    expect(bytes(104857600)).toBe('100 MiB');
  });

  it('shows times relative to now', () => {
    expect(relative(0)).toBe('never');
    expect(relative(1000, 1002)).toBe('just now');
    expect(relative(1000, 1000 + 7200)).toBe('2 hours ago');
  });

  it('shows durations', () => {
    expect(duration(59)).toBe('59 s');
    expect(duration(3700)).toBe('1 h 1 min');
  });

  it('knows job states', () => {
    expect(statusName(7003)).toBe('Quota exceeded');
    expect([5000, 6001, 7001, 7002, 7005].map(statusTone)).toEqual(['good', 'busy', 'warn', 'bad', 'quiet']);
  });

  it('finds rows by all words', () => {
    expect(matches('al  doc', 'Alice', 'Documents')).toBe(true);
    expect(matches('bob', 'Alice')).toBe(false);
  });
});

describe('answers', () => {
  it('tells an envelope from a job, which has a Status of its own', () => {
    expect(errorOf({ Status: 403, Message: 'Unauthorised' })?.status).toBe(403);
    expect(errorOf({ Status: 7002, GUID: 'x' })).toBeNull();
    expect(errorOf({ Status: 200, Message: 'OK' })).toBeNull();
    expect(errorOf(['a'])).toBeNull();
  });

  it('knows what an event makes stale', () => {
    expect(staleKeys('SEVT_JOB_NEW')).toContain('jobs');
    expect(staleKeys('SEVT_ACCOUNT_LOGIN')).toEqual([]);
  });
});
