// What a page shows stands in its address: search words, sorting, tabs, open dialogs.
import { useNavigate, useSearch } from '@tanstack/react-router';
import { useEffect } from 'react';

export type Search = Partial<
  Record<
    | 'q'
    | 'sort'
    | 'tab'
    | 'show'
    | 'snapshot'
    | 'path'
    | 'dialog'
    | 'step'
    | 'from'
    | 'to'
    | 'where'
    | 'day'
    | 'device'
    | 'template'
    | 'cols'
    | 'compare'
    | 'by'
    | 'who'
    | 'which',
    string
  >
>;

/** Texts and numbers of an address, as texts. */
export function searchOf(raw: Record<string, unknown>): Search {
  const out: Record<string, string> = {};
  for (const [key, value] of Object.entries(raw)) {
    if (typeof value === 'string' && value !== '') out[key] = value;
    else if (typeof value === 'number') out[key] = String(value);
  }
  return out as Search;
}

/** A part of the address and how to change it; without a value it vanishes. */
export function useParam(key: keyof Search, { keep = false } = {}): [string, (value: string | null) => void] {
  const search = useSearch({ strict: false }) as Search;
  const navigate = useNavigate();
  const set = (value: string | null) =>
    navigate({
      to: '.',
      replace: !keep,
      search: (old: Search) => {
        const next = { ...old };
        if (value) next[key] = value;
        else delete next[key];
        return next;
      },
    });
  return [search[key] ?? '', set];
}

/** Whether the address says that a dialog is open, of `which` thing, and how to open and close it. */
export function useDialog(name: string, which = ''): [boolean, (open: boolean) => void] {
  const search = useSearch({ strict: false }) as Search;
  const navigate = useNavigate();
  const set = (open: boolean) =>
    navigate({
      to: '.',
      search: ({ dialog: _, which: __, ...rest }: Search) => ({
        ...rest,
        ...(open ? { dialog: name, ...(which ? { which } : {}) } : {}),
      }),
    });
  return [search.dialog === name && (search.which ?? '') === which, set];
}

/** Brings the chosen tab into sight where the row of tabs is wider than the screen. */
export function useTabInSight(tab: string) {
  useEffect(() => {
    const chosen = document.querySelector(`.tabs [role=tab]${tab ? '[aria-selected=true]' : ''}`);
    chosen?.scrollIntoView({ inline: 'center', block: 'nearest' });
  }, [tab]);
}
