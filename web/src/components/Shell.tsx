import '@mantine/core/styles.css';
import {
  AppShell,
  Button,
  Group,
  Menu,
  Text,
  useComputedColorScheme,
  useMantineColorScheme,
} from '@mantine/core';
import { useDisclosure } from '@mantine/hooks';
import { useQueryClient } from '@tanstack/react-query';
import { Link, Outlet, useNavigate } from '@tanstack/react-router';
import { useEffect, useSyncExternalStore } from 'react';
import { call } from '../api/client';
import { followEvents } from '../api/events';
import { session, setSession, subscribe } from '../api/session';

const ADMIN_PAGES = [
  ['/', 'Home'],
  ['/accounts', 'Accounts'],
  ['/devices', 'Connected devices'],
  ['/jobs', 'Job history'],
  ['/storage', 'Storage'],
  ['/reports', 'My reports'],
] as const;

const USER_PAGES = [
  ['/', 'Home'],
  ['/devices', 'Devices on line'],
  ['/jobs', 'Job history'],
  ['/reports', 'My reports'],
] as const;

export function Shell() {
  const [opened, { toggle, close }] = useDisclosure(false);
  const who = useSyncExternalStore(subscribe, session);
  const client = useQueryClient();
  const navigate = useNavigate();
  const { setColorScheme } = useMantineColorScheme();
  const scheme = useComputedColorScheme('light');

  useEffect(() => followEvents(client), [client, who?.key]);
  useEffect(() => {
    if (!who) navigate({ to: '/sign-in' });
  }, [who, navigate]);
  if (!who) return null;

  const signOut = async () => {
    const path =
      who.kind === 'admin' ? '/api/v1/admin/account/session-revoke' : '/api/v1/user/web/session/revoke';
    await call(path).catch(() => undefined);
    setSession(null);
  };

  return (
    <AppShell
      header={{ height: 48 }}
      navbar={{ width: 210, breakpoint: 'sm', collapsed: { mobile: !opened } }}
      padding="md"
    >
      <AppShell.Header px="md">
        <Group h="100%" justify="space-between" wrap="nowrap">
          <Group gap="xs" wrap="nowrap">
            <Button
              hiddenFrom="sm"
              size="compact-sm"
              variant="default"
              onClick={toggle}
              aria-expanded={opened}
            >
              Menu
            </Button>
            <img src="/favicon.svg" alt="" width={22} height={22} />
            <Text fw={650}>Encke</Text>
          </Group>
          <Group gap="xs" wrap="nowrap">
            <Button
              size="compact-sm"
              variant="subtle"
              color="gray"
              onClick={() => setColorScheme(scheme === 'dark' ? 'light' : 'dark')}
            >
              {scheme === 'dark' ? 'Light' : 'Dark'}
            </Button>
            <Menu position="bottom-end">
              <Menu.Target>
                <Button size="compact-sm" variant="default">
                  {who.username}
                </Button>
              </Menu.Target>
              <Menu.Dropdown>
                <Menu.Label>{who.kind === 'admin' ? 'Administrator' : 'End user'}</Menu.Label>
                <Menu.Item component="a" href="/docs" target="_blank">
                  API reference
                </Menu.Item>
                <Menu.Item onClick={signOut}>Sign out</Menu.Item>
              </Menu.Dropdown>
            </Menu>
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="xs" className="nav" aria-label="Pages">
        {(who.kind === 'admin' ? ADMIN_PAGES : USER_PAGES).map(([to, label]) => (
          <Link key={to} to={to} activeOptions={{ exact: to === '/' }} onClick={close}>
            {label}
          </Link>
        ))}
      </AppShell.Navbar>
      <AppShell.Main>
        <Outlet />
      </AppShell.Main>
    </AppShell>
  );
}
