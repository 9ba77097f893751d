import '@mantine/core/styles.css';
import {
  AppShell,
  Button,
  Group,
  Menu,
  Text,
  Tooltip,
  UnstyledButton,
  useComputedColorScheme,
  useMantineColorScheme,
} from '@mantine/core';
import { useDisclosure, useHotkeys } from '@mantine/hooks';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, Outlet, useNavigate } from '@tanstack/react-router';
import { lazy, Suspense, useEffect, useSyncExternalStore } from 'react';
import { call } from '../api/client';
import { followEvents, isLive, onLive } from '../api/events';
import { brandingQuery, useTopLevel } from '../api/queries';
import { session, setSession, subscribe } from '../api/session';
import { chooseLanguage, LANGUAGES, type Language, language, t } from '../i18n';
import { useBrand } from '../lib/brand';
import { useGoals } from '../lib/keys';
import { addressOf, useSharedViews, useViews } from '../lib/views';
import { adminPages, userPages } from '../pages/nav';
import { Bookmark, Check, MenuIcon, Moon, Search, Sun } from './icons';

const Shortcuts = lazy(() => import('./Shortcuts').then((m) => ({ default: m.Shortcuts })));
const Palette = lazy(() => import('./Palette').then((m) => ({ default: m.Palette })));

export function Shell() {
  const [menu, { toggle, close }] = useDisclosure(false);
  const [palette, { open: openPalette, close: closePalette }] = useDisclosure(false);
  const [help, { open: openHelp, close: closeHelp }] = useDisclosure(false);
  const who = useSyncExternalStore(subscribe, session);
  const live = useSyncExternalStore(onLive, isLive);
  const client = useQueryClient();
  const navigate = useNavigate();
  const { setColorScheme } = useMantineColorScheme();
  const scheme = useComputedColorScheme('light');
  const topLevel = useTopLevel();
  const branding = useQuery(brandingQuery());
  const brand = useBrand(branding.data);
  const [own] = useViews();
  const views = [...own, ...useSharedViews()];

  useEffect(() => followEvents(client), [client, who?.key]);
  useEffect(() => {
    if (!who) navigate({ to: '/sign-in' });
  }, [who, navigate]);
  useEffect(() => {
    const change = () => navigate({ to: '/password' });
    window.addEventListener('encke-must-change', change);
    return () => window.removeEventListener('encke-must-change', change);
  }, [navigate]);
  useHotkeys([
    ['mod+K', openPalette],
    ['shift+?', openHelp],
    ['/', () => document.querySelector<HTMLInputElement>('[data-search]')?.focus()],
  ]);
  useGoals(who?.kind === 'admin');
  if (!who) return null;

  const signOut = async () => {
    const revoke =
      who.kind === 'admin' ? '/api/v1/admin/account/session-revoke' : '/api/v1/user/web/session/revoke';
    await call(revoke).catch(() => undefined);
    setSession(null);
  };
  const parts = who.kind === 'admin' ? adminPages(topLevel === true) : userPages();

  return (
    <AppShell
      header={{ height: 48 }}
      navbar={{ width: 208, breakpoint: 'sm', collapsed: { mobile: !menu } }}
      padding="md"
    >
      <a href="#main" className="skip">
        {t('To the content')}
      </a>
      <AppShell.Header px="sm" style={brand.header} className="head">
        <Group h="100%" justify="space-between" wrap="nowrap" gap="xs">
          <Group gap="xs" wrap="nowrap">
            <Button
              hiddenFrom="sm"
              size="compact-sm"
              variant="default"
              onClick={toggle}
              aria-expanded={menu}
              leftSection={<MenuIcon size={14} />}
            >
              {t('Menu')}
            </Button>
            <img src={brand.logo} alt="" height={22} className="logo" />
            <Text fw={650} visibleFrom="xs" truncate>
              {brand.name}
            </Text>
          </Group>
          <Group gap={6} wrap="nowrap">
            <UnstyledButton
              className="find"
              onClick={openPalette}
              aria-label={t('Search and commands')}
              aria-keyshortcuts="Control+K"
            >
              <Search size={14} />
              <Text size="xs" visibleFrom="sm" span>
                {t('Search and commands')}
              </Text>
              <span className="kbd" data-key="Ctrl K" aria-hidden />
            </UnstyledButton>
            {who.kind === 'admin' && (
              <Tooltip
                label={live ? t('Live: changes appear by themselves') : t('Not live: connecting again')}
              >
                <span
                  className="live"
                  data-live={live}
                  role="img"
                  aria-label={
                    live ? t('Live: changes appear by themselves') : t('Not live: connecting again')
                  }
                />
              </Tooltip>
            )}
            <Tooltip label={scheme === 'dark' ? t('Light') : t('Dark')}>
              <UnstyledButton
                className="tool"
                onClick={() => setColorScheme(scheme === 'dark' ? 'light' : 'dark')}
                aria-label={scheme === 'dark' ? t('Light') : t('Dark')}
              >
                {scheme === 'dark' ? <Sun size={16} /> : <Moon size={16} />}
              </UnstyledButton>
            </Tooltip>
            <Menu position="bottom-end" width={220}>
              <Menu.Target>
                <Button size="compact-sm" variant="default" maw={150}>
                  {who.username}
                </Button>
              </Menu.Target>
              <Menu.Dropdown>
                <Menu.Label>{who.kind === 'admin' ? t('Administrator') : t('End user')}</Menu.Label>
                <Menu.Item onClick={() => navigate({ to: '/me' })}>{t('My account')}</Menu.Item>
                <Menu.Item onClick={openHelp}>{t('Keyboard')}</Menu.Item>
                <Menu.Item component="a" href="/docs" target="_blank">
                  {t('API reference')}
                </Menu.Item>
                <Menu.Divider />
                <Menu.Label>{t('Language')}</Menu.Label>
                {Object.entries(LANGUAGES).map(([code, name]) => (
                  <Menu.Item
                    key={code}
                    lang={code}
                    onClick={() => chooseLanguage(code as Language)}
                    rightSection={language() === code ? <Check size={14} /> : null}
                  >
                    {name}
                  </Menu.Item>
                ))}
                <Menu.Divider />
                <Menu.Item onClick={signOut}>{t('Sign out')}</Menu.Item>
              </Menu.Dropdown>
            </Menu>
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="xs" className="nav" aria-label={t('Pages')}>
        {parts.map((part) => (
          <div key={part.label || 'first'} className="part">
            {part.label && <div className="caption">{part.label}</div>}
            {part.entries.map(({ to, label, icon: Icon }) => (
              <Link
                key={to}
                to={to}
                activeOptions={{ exact: to === '/', includeSearch: false }}
                onClick={close}
              >
                <Icon size={16} />
                {label}
              </Link>
            ))}
          </div>
        ))}
        {views.length > 0 && (
          <div className="part">
            <div className="caption">{t('Views')}</div>
            {views.map((view) => (
              <Link
                key={`${view.shared?.id ?? ''} ${addressOf(view)}`}
                to={view.path}
                search={view.search as never}
                activeOptions={{ exact: true, includeSearch: true }}
                onClick={close}
              >
                <Bookmark size={16} />
                <Text span truncate inherit>
                  {view.name}
                </Text>
              </Link>
            ))}
          </div>
        )}
      </AppShell.Navbar>
      <AppShell.Main id="main">
        <Outlet />
      </AppShell.Main>
      <Suspense>{help && <Shortcuts close={closeHelp} admin={who.kind === 'admin'} />}</Suspense>
      <Suspense>{palette && <Palette close={closePalette} topLevel={topLevel === true} />}</Suspense>
    </AppShell>
  );
}
