// The named views of a list: filters, sorting and columns as they stand in the address, and a way back to them.
import { ActionIcon, Button, Checkbox, Group, Popover, Stack, Text, TextInput } from '@mantine/core';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { Link, useLocation } from '@tanstack/react-router';
import { type FormEvent, useState } from 'react';
import { call } from '../api/client';
import { isAdmin } from '../api/queries';
import { t } from '../i18n';
import { addressOf, sameView, shareView, useSharedViews, useViews, type View, withView } from '../lib/views';
import { Bookmark, Close } from './icons';
import { CopyIcon, Failure } from './parts';

export function Views({ cols }: { cols: string }) {
  const { pathname, search } = useLocation();
  const here = search as Record<string, string>;
  const [all, keep] = useViews();
  const [opened, setOpened] = useState(false);
  const [name, setName] = useState('');
  const [removed, setRemoved] = useState<View | null>(null);
  const [forAll, setForAll] = useState(false);
  const shared = useSharedViews();
  const own = [...all, ...shared].filter((v) => v.path === pathname);
  const active = own.find((v) => sameView(v.search, here));
  const client = useQueryClient();
  const change = useMutation({
    mutationFn: (run: () => Promise<unknown>) => run(),
    onSuccess: () => client.invalidateQueries({ queryKey: ['views'] }),
  });
  const put = (view: View) => {
    if (view.shared) change.mutate(() => shareView(view));
    else keep(withView(all, view));
    setRemoved(null);
  };
  const save = (event: FormEvent) => {
    event.preventDefault();
    const wanted = name.trim();
    if (!wanted) return;
    const view = { name: wanted, path: pathname, search: { ...here, cols } };
    put(forAll ? { ...view, shared: { id: '', owner: '' } } : view);
    setName('');
  };
  const remove = (view: View) => {
    const id = view.shared?.id;
    if (id) change.mutate(() => call('/api/encke/v1/views/remove', { ViewID: id }));
    else keep(all.filter((v) => v !== view));
    setRemoved(view);
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
            <Group
              key={`${view.shared?.id ?? ''} ${view.name}`}
              gap={2}
              wrap="nowrap"
              className="view"
              data-active={view === active}
            >
              <Link to={view.path} search={view.search as never} onClick={() => setOpened(false)}>
                {view.name}
                {view.shared && (
                  <Text span size="xs" c="dimmed" ml={6}>
                    {t('shared by {name}', { name: view.shared.owner })}
                  </Text>
                )}
              </Link>
              <CopyIcon
                value={`${location.origin}${addressOf(view)}`}
                label={t("Copy the address of '{name}'", { name: view.name })}
              />
              <ActionIcon
                size="sm"
                aria-label={t("Remove '{name}'", { name: view.name })}
                onClick={() => remove(view)}
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
              <Button size="compact-xs" variant="default" onClick={() => put(removed)}>
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
            {isAdmin() && (
              <Checkbox
                size="xs"
                mt={6}
                label={t('For all administrators')}
                checked={forAll}
                onChange={(e) => setForAll(e.currentTarget.checked)}
              />
            )}
          </form>
          <Failure error={change.error} />
        </Stack>
      </Popover.Dropdown>
    </Popover>
  );
}
