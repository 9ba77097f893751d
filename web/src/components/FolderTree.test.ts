import { describe, expect, it } from 'vitest';
import { type Choice, isIn, toggled } from './FolderTree';

const nothing: Choice = { include: [], exclude: [] };

describe('choosing folders', () => {
  it('takes what lies below, and leaves out what is unchecked inside', () => {
    const home = toggled(nothing, '/home');
    expect(isIn(home, '/home/anna/letter.txt')).toBe(true);
    expect(isIn(home, '/homework')).toBe(false);
    const bare = toggled(home, '/home/anna/cache');
    expect(bare).toEqual({ include: ['/home'], exclude: ['/home/anna/cache'] });
    expect(isIn(bare, '/home/anna/cache/x')).toBe(false);
    expect(isIn(bare, '/home/anna')).toBe(true);
    // One inside what is left out comes back by itself.
    expect(isIn(toggled(bare, '/home/anna/cache/keep'), '/home/anna/cache/keep')).toBe(true);
  });

  it('forgets what stood below a folder that is checked or unchecked', () => {
    const choice: Choice = { include: ['/home/a', '/home/b'], exclude: ['/home/a/tmp'] };
    expect(toggled(choice, '/home')).toEqual({ include: ['/home'], exclude: [] });
    expect(toggled({ include: ['/home'], exclude: ['/home/a'] }, '/home')).toEqual(nothing);
  });

  it('a click always changes what it is on, and a second one changes it back', () => {
    const paths = ['/', '/a', '/a/b', '/a/b/c', '/a/d', '/e'];
    let seed = 7;
    const random = (n: number) => {
      seed = (seed * 1103515245 + 12345) % 2147483648;
      return seed % n;
    };
    let choice = nothing;
    for (let step = 0; step < 500; step += 1) {
      const path = paths[random(paths.length)] ?? '/';
      const before = isIn(choice, path);
      choice = toggled(choice, path);
      expect(isIn(choice, path), `${step}: ${path}`).toBe(!before);
    }
  });

  it('knows Windows paths', () => {
    expect(isIn(toggled(nothing, 'C:\\Users'), 'C:\\Users\\Anna')).toBe(true);
    expect(isIn(toggled(nothing, 'C:\\Users'), 'C:\\Users2')).toBe(false);
  });
});
