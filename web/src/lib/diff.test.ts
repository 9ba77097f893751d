import { expect, it } from 'vitest';
import type { StoredObject } from '../api/types';
import { compareFolder, growthOf } from './diff';

const file = (name: string, size: number, mtime = 1) =>
  ({ name, type: 'file', size, mtime, subtree: '' }) as StoredObject;
const folder = (name: string, subtree: string) =>
  ({ name, type: 'dir', size: 0, mtime: 1, subtree }) as StoredObject;

it('tells what was added, removed and changed, and where to look on', () => {
  const { changes, below } = compareFolder(
    '/home',
    [file('same', 1), file('gone', 2), file('grown', 3), folder('quiet', 'a'), folder('busy', 'b')],
    [file('same', 1), file('grown', 30), file('new', 4), folder('quiet', 'a'), folder('busy', 'c')],
  );
  expect(changes.map((c) => [c.kind, c.path, growthOf(c)])).toEqual([
    ['removed', '/home/gone', -2],
    ['changed', '/home/grown', 27],
    ['added', '/home/new', 4],
  ]);
  expect(below).toEqual([{ path: '/home/busy', older: 'b', newer: 'c' }]);
});

it('takes a file that became a folder for both', () => {
  const { changes, below } = compareFolder('', [file('x', 1)], [folder('x', 't')]);
  expect(changes.map((c) => c.kind)).toEqual(['removed', 'added']);
  expect(below).toEqual([{ path: '/x', newer: 't' }]);
});

it('sees a touched file of the same size', () => {
  expect(compareFolder('', [file('x', 1, 1)], [file('x', 1, 2)]).changes).toHaveLength(1);
});
