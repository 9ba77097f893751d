// One file of a snapshot, through a device of the account and this server into the browser.
import { Button, Group, Modal, Progress, Stack, Text } from '@mantine/core';
import { useMutation } from '@tanstack/react-query';
import { useEffect, useRef, useState } from 'react';
import { callFile } from '../api/client';
import { t } from '../i18n';
import { bytes, saveBlob } from '../lib/format';
import { Failure } from './parts';

export type Wanted = { path: string; size: number };

export function FileDownload({
  target,
  vault,
  snapshot,
  file,
  close,
}: {
  target: string;
  vault: string;
  snapshot: string;
  file: Wanted;
  close: () => void;
}) {
  const [come, setCome] = useState(0);
  const name = file.path.split('/').at(-1) ?? 'file';
  const abort = useRef<AbortController | null>(null);
  const fetching = useMutation({
    mutationFn: async (signal: AbortSignal) => {
      const fields = { TargetID: target, Destination: vault, SnapshotID: snapshot, Path: file.path };
      saveBlob(name, await callFile('/api/encke/v1/snapshot/file', fields, signal, setCome));
    },
    onSuccess: close,
  });
  const { mutate } = fetching;
  useEffect(() => {
    const controller = new AbortController();
    abort.current = controller;
    mutate(controller.signal);
    // Who leaves ends it: the server asks the device for no more.
    return () => controller.abort();
  }, [mutate]);
  return (
    <Modal opened onClose={close} title={t('Download {name}', { name })}>
      <Stack gap="sm">
        <Failure error={fetching.error?.name === 'AbortError' ? null : fetching.error} />
        <Progress
          value={file.size > 0 ? (100 * come) / file.size : 0}
          aria-label={t('Downloaded')}
          animated={fetching.isPending}
        />
        <Text size="sm" c="dimmed" role="status">
          {t('{n} of {all}', { n: bytes(come), all: bytes(file.size) })}
        </Text>
        <Group justify="flex-end">
          <Button variant="default" onClick={close}>
            {fetching.isError ? t('Close') : t('Cancel')}
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}
