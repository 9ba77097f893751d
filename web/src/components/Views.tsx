// The named views of a list: filters, sorting and columns as they stand in the address, and a way back to them.
import { ActionIcon, Button, Group, Popover, Stack, Text, TextInput } from '@mantine/core';
import { Link, useLocation } from '@tanstack/react-router';
import { type FormEvent, useState } from 'react';
import { t } from '../i18n';
import { addressOf, sameView, useViews, type View, withView } from '../lib/views';
import { Bookmark, Close } from './icons';
import { CopyIcon } from './parts';

export function Views({ cols }: { cols: string }) {
  const { pathname, search } = useLocation();
  const here = search as Record<string, string>;
  const [all, keep] = useViews();
  const [opened, setOpened] = useState(false);
  const [name, setName] = useState('');
  const [removed, setRemoved] = useState<View | null>(null);
  const own = all.filter((v) => v.path === pathname);
  const active = own.find((v) => sameView(v.search, here));
  const save = (event: FormEvent) => {
    event.preventDefault();
    const wanted = name.trim();
    if (!wanted) return;
    keep(withView(all, { name: wanted, path: pathname, search: { ...here, cols } }));
    setName('');
    setRemoved(null);
  };
  return (
    <Popover opened={opened} onChange={setOpened} position="bottom-end" shadow="sm" width={300} trapFocus>
      <Popover.Target>
        <Button
          size="compact-sm"
          variant={active ? 'light' : 'subtle'}
          color={active ? undefined : 'gray'}
          leftSection={<Bookmark size={14} />}
          onClick={() => setOpened(!opened)}
          maw={170}
        >
          {active ? active.name : t('Views')}
        </Button>
      </Popover.Target>
      <Popover.Dropdown p="xs" aria-label={t('Views')}>
        <Stack gap={6}>
          {own.length === 0 && !removed && (
            <Text size="sm" c="dimmed">
              {t(
                'Keep search, filters, sorting and columns under a name. Each view has an address to share.',
              )}
            </Text>
          )}
          {own.map((view) => (
            <Group key={view.name} gap={2} wrap="nowrap" className="view" data-active={view === active}>
              <Link to={view.path} search={view.search as never} onClick={() => setOpened(false)}>
                {view.name}
              </Link>
              <CopyIcon
                value={`${location.origin}${addressOf(view)}`}
                label={t("Copy the address of '{name}'", { name: view.name })}
              />
              <ActionIcon
                size="sm"
                aria-label={t("Remove '{name}'", { name: view.name })}
                onClick={() => {
                  keep(all.filter((v) => v !== view));
                  setRemoved(view);
                }}
              >
                <Close size={14} />
              </ActionIcon>
            </Group>
          ))}
          {removed && (
            <Group gap="xs" role="status">
              <Text size="sm" flex={1} truncate>
                {t("'{name}' is removed.", { name: removed.name })}
              </Text>
              <Button
                size="compact-xs"
                variant="default"
                onClick={() => {
                  keep(withView(all, removed));
                  setRemoved(null);
                }}
              >
                {t('Undo')}
              </Button>
            </Group>
          )}
          <form onSubmit={save}>
            <Group gap={6} wrap="nowrap">
              <TextInput
                size="xs"
                flex={1}
                maxLength={40}
                aria-label={t('Name of the view')}
                placeholder={t('Name of the view')}
                value={name}
                onChange={(e) => setName(e.currentTarget.value)}
              />
              <Button type="submit" disabled={!name.trim()}>
                {t('Keep')}
              </Button>
            </Group>
          </form>
        </Stack>
      </Popover.Dropdown>
    </Popover>
  );
}
