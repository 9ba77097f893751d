// What differs between two snapshots, folder by folder. Equal folders have equal trees and are not looked into.
import type { StoredObject } from '../api/types';

export type Kind = 'added' | 'removed' | 'changed';
export type Change = { path: string; kind: Kind; before?: StoredObject; after?: StoredObject };
/** A folder still to be compared: its tree in each snapshot, nothing where it is missing, '' for the root. */
export type Pair = { path: string; older?: string; newer?: string };

const isFolder = (o: StoredObject | undefined) => o !== undefined && o.subtree !== '';

/** Compares the entries of one folder: what changed here, and which folders below have to be looked into. */
export function compareFolder(path: string, older: StoredObject[], newer: StoredObject[]) {
  const changes: Change[] = [];
  const below: Pair[] = [];
  const before = new Map(older.map((o) => [o.name, o]));
  const after = new Map(newer.map((o) => [o.name, o]));
  for (const name of new Set([...before.keys(), ...after.keys()])) {
    const [a, b] = [before.get(name), after.get(name)];
    const at = `${path}/${name}`;
    if (isFolder(a) && isFolder(b)) {
      if (a?.subtree !== b?.subtree) below.push({ path: at, older: a?.subtree, newer: b?.subtree });
      continue;
    }
    if (a && b && a.type === b.type) {
      if (a.size !== b.size || a.mtime !== b.mtime)
        changes.push({ path: at, kind: 'changed', before: a, after: b });
      continue;
    }
    // What was a file and is a folder now went and came.
    if (a) changes.push({ path: at, kind: 'removed', before: a });
    if (b) changes.push({ path: at, kind: 'added', after: b });
    if (isFolder(a)) below.push({ path: at, older: a?.subtree });
    if (isFolder(b)) below.push({ path: at, newer: b?.subtree });
  }
  return { changes, below };
}

const sizeOf = (o: StoredObject | undefined) => (o?.type === 'file' ? o.size : 0);

/** Bytes that came or went by a change. */
export const growthOf = (change: Change) => sizeOf(change.after) - sizeOf(change.before);
