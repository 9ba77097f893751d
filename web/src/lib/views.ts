// Saved views: an address inside the console under a name, kept in the browser for whoever is signed in.
import { useLocalStorage } from '@mantine/hooks';
import { useQuery } from '@tanstack/react-query';
import { call } from '../api/client';
import { session } from '../api/session';

export type View = {
  name: string;
  path: string;
  search: Record<string, string>;
  /** A view that all administrators have. */
  shared?: { id: string; owner: string };
};

type SharedView = { Name: string; Path: string; Search: Record<string, string>; Owner: string };

const NONE: View[] = [];
/** Most views that are kept; more is no order any more. */
const MOST = 50;

const isView = (value: unknown): value is View => {
  const v = value as View;
  return (
    typeof v?.name === 'string' &&
    typeof v.path === 'string' &&
    /^\/(?![/\\])/.test(v.path) &&
    typeof v.search === 'object' &&
    v.search !== null
  );
};

/** What the browser kept, whatever somebody made of it. */
export function viewsOf(text: string | undefined): View[] {
  try {
    const list: unknown = JSON.parse(text ?? '[]');
    return Array.isArray(list) ? list.filter(isView).slice(0, MOST) : [];
  } catch {
    return [];
  }
}

export const addressOf = ({ path, search }: View) => {
  const words = new URLSearchParams(search).toString();
  return words ? `${path}?${words}` : path;
};

export const sameView = (a: Record<string, string>, b: Record<string, string>) => {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
};

/** All views of whoever is signed in, and how to keep others. */
export function useViews(): [View[], (next: View[]) => void] {
  const who = session();
  const [list, set] = useLocalStorage<View[]>({
    key: `encke-views-${who?.kind}-${who?.username}`,
    defaultValue: [],
    getInitialValueInEffect: false,
    deserialize: viewsOf,
  });
  return [list, (next) => set(next.slice(0, MOST))];
}

/** The views that all administrators of the organization have. */
export function useSharedViews(): View[] {
  const all = useQuery({
    queryKey: ['views'],
    enabled: session()?.kind === 'admin',
    queryFn: async () =>
      Object.entries(await call<Record<string, SharedView>>('/api/encke/v1/views/list'))
        .map(([id, v]) => ({ name: v.Name, path: v.Path, search: v.Search, shared: { id, owner: v.Owner } }))
        .filter(isView),
  });
  return all.data ?? NONE;
}

export const shareView = ({ name, path, search }: View) =>
  call('/api/encke/v1/views/share', { Name: name, Path: path, Search: search });

/** The list with a view, in place of one of the same name and page. */
export const withView = (list: View[], view: View) => [
  ...list.filter((v) => v.name !== view.name || v.path !== view.path),
  view,
];
