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

/** Opens the dialog of a name about something, or closes it. */
function useOpen(name: string) {
  const navigate = useNavigate();
  return (open: boolean, which = '') =>
    navigate({
      to: '.',
      // The way back leads past a closed dialog.
      replace: !open,
      search: ({ dialog: _, which: __, ...rest }: Search) => ({
        ...rest,
        ...(open ? { dialog: name, ...(which ? { which } : {}) } : {}),
      }),
    });
}

/** Whether the address says that a dialog is open, of `which` thing, and how to open and close it. */
export function useDialog(name: string, which = ''): [boolean, (open: boolean) => void] {
  const search = useSearch({ strict: false }) as Search;
  const set = useOpen(name);
  return [search.dialog === name && (search.which ?? '') === which, (open) => set(open, which)];
}

/** What the open dialog of a name is about, and how to open it for something, or with nothing to close it. */
export function useDialogOf(name: string): [string, (which: string) => void] {
  const search = useSearch({ strict: false }) as Search;
  const set = useOpen(name);
  return [search.dialog === name ? (search.which ?? '') : '', (which) => set(which !== '', which)];
}

/** Brings the chosen tab into sight where the row of tabs is wider than the screen. */
export function useTabInSight(tab: string) {
  useEffect(() => {
    const chosen = document.querySelector(`.tabs [role=tab]${tab ? '[aria-selected=true]' : ''}`);
    chosen?.scrollIntoView({ inline: 'center', block: 'nearest' });
  }, [tab]);
}
