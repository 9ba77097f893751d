import {
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Outlet,
  parseSearchWith,
  redirect,
  stringifySearchWith,
} from '@tanstack/react-router';
import { session } from './api/session';
import { type Search, searchOf } from './lib/search';

const root = createRootRoute({ component: Outlet });

const signIn = createRoute({
  getParentRoute: () => root,
  path: '/sign-in',
  validateSearch: (
    search: Record<string, unknown>,
  ): { refused?: boolean; external?: boolean; next?: string } => ({
    ...(search.refused ? { refused: true } : {}),
    // Another system sent the browser back.
    ...(search.external ? { external: true } : {}),
    // A path of this console and nothing else.
    ...(typeof search.next === 'string' && /^\/[^/\\]/.test(search.next) ? { next: search.next } : {}),
  }),
  component: lazyRouteComponent(() => import('./pages/SignIn'), 'SignIn'),
});

const signedIn = ({ location }: { location: { href: string } }) => {
  if (!session()) {
    throw redirect({ to: '/sign-in', search: location.href === '/' ? {} : { next: location.href } });
  }
};

const password = createRoute({
  getParentRoute: () => root,
  path: '/password',
  beforeLoad: signedIn,
  component: lazyRouteComponent(() => import('./pages/MustChange'), 'MustChange'),
});

const shell = createRoute({
  getParentRoute: () => root,
  id: 'shell',
  beforeLoad: signedIn,
  validateSearch: (search: Record<string, unknown>): Search => searchOf(search),
  component: lazyRouteComponent(() => import('./components/Shell'), 'Shell'),
});

/** A page inside the frame, in a file of its own that is loaded when it is wanted. */
const page = <P extends string, M extends object, K extends keyof M>(
  path: P,
  load: () => Promise<M>,
  name: K,
) =>
  createRoute({
    getParentRoute: () => shell,
    path,
    component: lazyRouteComponent(load as () => Promise<Record<string, never>>, name as string) as never,
  });

const pages = [
  page('/', () => import('./pages/Home'), 'Home'),
  page('/accounts', () => import('./pages/Accounts'), 'Accounts'),
  page('/accounts/$username', () => import('./pages/account/Account'), 'Account'),
  page('/accounts/$username/items/$item', () => import('./pages/account/ItemPage'), 'ItemPage'),
  page('/accounts/$username/vaults/$vault', () => import('./pages/Browse'), 'Browse'),
  page('/accounts/$username/vaults/$vault/edit', () => import('./pages/account/VaultPage'), 'VaultPage'),
  page('/devices', () => import('./pages/Devices'), 'Devices'),
  page('/install', () => import('./pages/Install'), 'Install'),
  page('/downloads', () => import('./pages/Downloads'), 'Downloads'),
  page('/jobs', () => import('./pages/Jobs'), 'Jobs'),
  page('/jobs/$id', () => import('./pages/Job'), 'JobPage'),
  page('/activity', () => import('./pages/Activity'), 'Activity'),
  page('/policies', () => import('./pages/policies/Policies'), 'Policies'),
  page('/policies/$id', () => import('./pages/policies/PolicyPage'), 'PolicyPage'),
  page('/groups', () => import('./pages/Groups'), 'Groups'),
  page('/news', () => import('./pages/News'), 'News'),
  page('/tenants', () => import('./pages/server/Tenants'), 'Tenants'),
  page('/tenants/$id', () => import('./pages/server/TenantPage'), 'TenantPage'),
  page('/admins', () => import('./pages/server/Admins'), 'Admins'),
  page('/admins/$name', () => import('./pages/server/AdminPage'), 'AdminPage'),
  page('/storage', () => import('./pages/Storage'), 'Storage'),
  page('/setup', () => import('./pages/server/Setup'), 'Setup'),
  page('/settings', () => import('./pages/server/Settings'), 'Settings'),
  page('/audit', () => import('./pages/server/Audit'), 'Audit'),
  page('/replication', () => import('./pages/server/Replication'), 'Replication'),
  page('/cluster', () => import('./pages/server/Cluster'), 'Cluster'),
  page('/logs', () => import('./pages/server/Logs'), 'Logs'),
  page('/about', () => import('./pages/server/About'), 'About'),
  page('/me', () => import('./pages/Me'), 'Me'),
  page('/reports', () => import('./pages/Reports'), 'Reports'),
  page('/reports/new', () => import('./pages/reports/Designer'), 'NewReport'),
  page('/reports/sources', () => import('./pages/reports/Sources'), 'Sources'),
  page('/reports/$id', () => import('./pages/reports/Designer'), 'EditReport'),
] as const;

export const router = createRouter({
  routeTree: root.addChildren([signIn, password, shell.addChildren(pages)]),
  defaultPreload: 'intent',
  // Plain texts, so that addresses stay readable.
  parseSearch: parseSearchWith((text) => text),
  stringifySearch: stringifySearchWith(String),
});

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router;
  }
}
