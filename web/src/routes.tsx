import {
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Outlet,
  redirect,
} from '@tanstack/react-router';
import { session } from './api/session';

/** A text of a page's address, if it is there. */
const text = <K extends string>(search: Record<string, unknown>, key: K): { [P in K]?: string } =>
  typeof search[key] === 'string' && search[key] !== ''
    ? ({ [key]: search[key] } as { [P in K]?: string })
    : {};

const root = createRootRoute({ component: Outlet });

const signIn = createRoute({
  getParentRoute: () => root,
  path: '/sign-in',
  validateSearch: (search: Record<string, unknown>): { refused?: boolean; next?: string } => ({
    ...(search.refused ? { refused: true } : {}),
    // A path of this console and nothing else.
    ...(typeof search.next === 'string' && /^\/[^/\\]/.test(search.next) ? { next: search.next } : {}),
  }),
  component: lazyRouteComponent(() => import('./pages/SignIn'), 'SignIn'),
});

const shell = createRoute({
  getParentRoute: () => root,
  id: 'shell',
  beforeLoad: ({ location }) => {
    if (!session()) {
      throw redirect({ to: '/sign-in', search: location.href === '/' ? {} : { next: location.href } });
    }
  },
  component: lazyRouteComponent(() => import('./components/Shell'), 'Shell'),
});

const home = createRoute({
  getParentRoute: () => shell,
  path: '/',
  component: lazyRouteComponent(() => import('./pages/Home'), 'Home'),
});
const accounts = createRoute({
  getParentRoute: () => shell,
  path: '/accounts',
  validateSearch: (search: Record<string, unknown>): { q?: string } => text(search, 'q'),
  component: lazyRouteComponent(() => import('./pages/Accounts'), 'Accounts'),
});
const account = createRoute({
  getParentRoute: () => shell,
  path: '/accounts/$username',
  validateSearch: (search: Record<string, unknown>): { tab?: string } => text(search, 'tab'),
  component: lazyRouteComponent(() => import('./pages/Account'), 'Account'),
});
const browse = createRoute({
  getParentRoute: () => shell,
  path: '/accounts/$username/vaults/$vault',
  validateSearch: (search: Record<string, unknown>): { snapshot?: string; path?: string } => ({
    ...(typeof search.snapshot === 'string' ? { snapshot: search.snapshot } : {}),
    ...(typeof search.path === 'string' ? { path: search.path } : {}),
  }),
  component: lazyRouteComponent(() => import('./pages/Browse'), 'Browse'),
});
const devices = createRoute({
  getParentRoute: () => shell,
  path: '/devices',
  component: lazyRouteComponent(() => import('./pages/Devices'), 'Devices'),
});
const jobs = createRoute({
  getParentRoute: () => shell,
  path: '/jobs',
  validateSearch: (search: Record<string, unknown>): { q?: string; show?: string } => ({
    ...text(search, 'q'),
    ...text(search, 'show'),
  }),
  component: lazyRouteComponent(() => import('./pages/Jobs'), 'Jobs'),
});
const job = createRoute({
  getParentRoute: () => shell,
  path: '/jobs/$id',
  component: lazyRouteComponent(() => import('./pages/Job'), 'JobPage'),
});
const buckets = createRoute({
  getParentRoute: () => shell,
  path: '/storage',
  component: lazyRouteComponent(() => import('./pages/Storage'), 'Storage'),
});
const reports = createRoute({
  getParentRoute: () => shell,
  path: '/reports',
  component: lazyRouteComponent(() => import('./pages/Reports'), 'Reports'),
});

export const router = createRouter({
  routeTree: root.addChildren([
    signIn,
    shell.addChildren([home, accounts, account, browse, devices, jobs, job, buckets, reports]),
  ]),
  defaultPreload: 'intent',
});

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router;
  }
}
