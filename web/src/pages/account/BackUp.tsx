import { Button, Modal, Select, Stack } from '@mantine/core';
import { useMutation } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import { type FormEvent, useState } from 'react';
import { runBackup, runRule } from '../../api/queries';
import type { Profile } from '../../api/types';
import { Actions, Failure } from '../../components/parts';
import { t } from '../../i18n';
import { useDialog } from '../../lib/search';
import { type Connections, connectionsOf } from './connections';

/** Starts a backup of an item, by one of its rules or straight to a vault. */
export function BackUp({
  profile,
  item,
  connections,
}: {
  profile: Profile;
  item: string;
  connections: Connections;
}) {
  const [opened, setOpened] = useDialog('backup', item);
  const close = () => setOpened(false);
  const vaults = Object.entries(profile.Destinations);
  const rules = Object.entries(profile.BackupRules).filter(([, r]) => r.Source === item);
  // A rule brings its own options; a vault alone takes the usual ones.
  const ways = [
    {
      group: t('By a backup rule'),
      items: rules.map(([id, r]) => ({ value: `rule:${id}`, label: r.Description || id })),
    },
    {
      group: t('To a Storage Vault'),
      items: vaults.map(([id, v]) => ({ value: `vault:${id}`, label: v.Description || id })),
    },
  ].filter((group) => group.items.length > 0);
  const [chosen, setWay] = useState<string | null>(null);
  const way = chosen ?? ways[0]?.items[0]?.value ?? null;
  const navigate = useNavigate();
  const device = profile.Sources[item]?.OwnerDevice ?? '';
  const target = connectionsOf(connections, profile.Username, device)[0];
  const start = useMutation({
    mutationFn: () => {
      const TargetID = target ?? '';
      const [kind, id = ''] = (way ?? '').split(/:(.*)/s);
      return kind === 'rule'
        ? runRule({ TargetID, BackupRule: id })
        : runBackup({ TargetID, Source: item, Destination: id });
    },
    onSuccess: (answer) =>
      answer.JobID ? navigate({ to: '/jobs/$id', params: { id: answer.JobID } }) : navigate({ to: '/jobs' }),
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    start.mutate();
  };
  return (
    <>
      <Button
        size="compact-sm"
        variant="light"
        onClick={() => setOpened(true)}
        disabled={!target || vaults.length === 0}
        title={
          !target
            ? t('The device is off line')
            : vaults.length === 0
              ? t('There is no Storage Vault yet.')
              : undefined
        }
      >
        {t('Back up')}
      </Button>
      <Modal
        opened={opened}
        onClose={close}
        title={t("Back up '{item}'", { item: profile.Sources[item]?.Description ?? '' })}
      >
        <form onSubmit={submit}>
          <Stack gap="sm">
            <Failure error={start.error} />
            <Select label={t('How')} data={ways} value={way} onChange={setWay} allowDeselect={false} />
            <Actions close={close} action={t('Start backup')} busy={start.isPending} disabled={!way} />
          </Stack>
        </form>
      </Modal>
    </>
  );
}
