// The command palette: every page, account and frequent deed by a few letters. A combobox with a list, by the
// pattern of WAI-ARIA.
import { Modal, TextInput } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useRouter } from '@tanstack/react-router';
import { type KeyboardEvent, useEffect, useMemo, useRef, useState } from 'react';
import { call } from '../api/client';
import { isAdmin } from '../api/queries';
import type { Profile } from '../api/types';
import { t } from '../i18n';
import { matches } from '../lib/format';
import { useSharedViews, useViews, type View } from '../lib/views';
import { adminPages, userPages } from '../pages/nav';

type Command = { label: string; hint: string; to: string; search?: Record<string, string> };

const MOST = 12;

/** What begins with the words comes before what only holds them. */
const rank = (words: string, label: string) =>
  label.toLocaleLowerCase().startsWith(words.trim().toLocaleLowerCase()) ? 0 : 1;

function commands(topLevel: boolean, views: View[]): Command[] {
  const pages = (isAdmin() ? adminPages(topLevel) : userPages()).flatMap((part) =>
    part.entries.map(({ to, label }) => ({ label, hint: part.label || t('Page'), to })),
  );
  const own = [{ label: t('My account'), hint: t('Page'), to: '/me' }];
  const kept = views.map(({ name, path, search }) => ({ label: name, hint: t('View'), to: path, search }));
  if (!isAdmin()) return [...pages, ...own, ...kept];
  const deed = (label: string, to: string, search?: Record<string, string>) => ({
    label,
    hint: t('Do'),
    to,
    search,
  });
  return [
    ...pages,
    ...own,
    ...kept,
    deed(t('Add account'), '/accounts', { dialog: 'new' }),
    deed(t('Add policy'), '/policies/new'),
    deed(t('Running jobs'), '/jobs', { show: 'running' }),
    deed(t('Failed jobs'), '/jobs', { show: 'failed' }),
    deed(t('Devices in the lobby'), '/devices', { tab: 'lobby' }),
  ];
}

export function Palette({ close, topLevel }: { close: () => void; topLevel: boolean }) {
  const { history } = useRouter();
  const client = useQueryClient();
  const [words, setWords] = useState('');
  const [at, setAt] = useState(0);
  const list = useRef<HTMLDivElement>(null);
  const [own] = useViews();
  const shared = useSharedViews();
  const views = useMemo(() => [...own, ...shared], [own, shared]);
  const names = useQuery({
    queryKey: ['names'],
    enabled: isAdmin(),
    queryFn: () => call<string[]>('/api/v1/admin/list-users'),
    staleTime: 30_000,
  });
  const known = client.getQueryData<Record<string, Profile>>(['profiles']);
  const found = useMemo(() => {
    const fixed = commands(topLevel, views).filter((c) => matches(words, c.label));
    if (words.trim() === '') return fixed.slice(0, 20);
    const accounts: Command[] = [];
    for (const name of names.data ?? []) {
      if (accounts.length >= MOST) break;
      if (matches(words, name, known?.[name]?.AccountName)) {
        accounts.push({ label: name, hint: t('Account'), to: `/accounts/${encodeURIComponent(name)}` });
      }
    }
    const all = [...fixed.slice(0, MOST), ...accounts];
    return all.sort((a, b) => rank(words, a.label) - rank(words, b.label));
  }, [words, topLevel, names.data, known, views]);
  useEffect(() => {
    list.current?.children[at]?.scrollIntoView({ block: 'nearest' });
  }, [at]);
  const go = (command: Command | undefined) => {
    if (!command) return;
    close();
    const search = new URLSearchParams(command.search).toString();
    history.push(search ? `${command.to}?${search}` : command.to);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === 'ArrowDown') setAt(Math.min(found.length - 1, at + 1));
    else if (event.key === 'ArrowUp') setAt(Math.max(0, at - 1));
    else if (event.key === 'Enter') go(found[at]);
    else return;
    event.preventDefault();
  };
  return (
    <Modal
      opened
      onClose={close}
      withCloseButton={false}
      padding={0}
      yOffset="12vh"
      centered={false}
      size={560}
      aria-label={t('Search and commands')}
    >
      <TextInput
        data-autofocus
        size="md"
        variant="unstyled"
        px="md"
        className="paletteInput"
        placeholder={t('Go to a page, an account or a command')}
        aria-label={t('Search and commands')}
        role="combobox"
        aria-expanded={found.length > 0}
        aria-controls="palette"
        aria-activedescendant={found[at] ? `palette-${at}` : undefined}
        value={words}
        onChange={(e) => {
          setWords(e.currentTarget.value);
          setAt(0);
        }}
        onKeyDown={onKeyDown}
      />
      <div id="palette" role="listbox" aria-label={t('Results')} className="palette" ref={list}>
        {found.map((command, index) => (
          <div
            key={`${command.hint}${command.to}${command.label}`}
            id={`palette-${index}`}
            role="option"
            tabIndex={-1}
            aria-selected={index === at}
            onMouseEnter={() => setAt(index)}
            onClick={() => go(command)}
            onKeyDown={onKeyDown}
          >
            <span>{command.label}</span>
            <small>{command.hint}</small>
          </div>
        ))}
      </div>
    </Modal>
  );
}
