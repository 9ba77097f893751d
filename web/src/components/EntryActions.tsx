// What the last column of a list offers for its row.
import { Button, Group } from '@mantine/core';
import type { ComponentProps } from 'react';
import { t } from '../i18n';
import { DangerButton } from './Danger';

/** Change, and delete after a question. */
export function EntryActions({
  change,
  ...removal
}: { change: () => void } & Omit<ComponentProps<typeof DangerButton>, 'label' | 'dialog'>) {
  return (
    <Group gap={4} justify="flex-end" wrap="nowrap">
      <Button size="compact-sm" variant="subtle" onClick={change}>
        {t('Change')}
      </Button>
      <DangerButton {...removal} dialog="delete" label={t('Delete')} />
    </Group>
  );
}
