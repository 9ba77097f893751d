import { Button, type ButtonProps, Modal, Stack, Text, TextInput } from '@mantine/core';
import { useMutation } from '@tanstack/react-query';
import { type FormEvent, type ReactNode, useState } from 'react';
import { t } from '../i18n';
import { Actions, Failure } from './parts';

/** Asks before something is lost; where it is much, the name has to be typed. */
export function DangerDialog({
  opened,
  close,
  title,
  text,
  action,
  word,
  run,
  children,
}: {
  opened: boolean;
  close: () => void;
  title: string;
  text: ReactNode;
  action: string;
  word?: string;
  run: () => Promise<unknown>;
  children?: ReactNode;
}) {
  const [typed, setTyped] = useState('');
  const done = useMutation({
    mutationFn: run,
    onSuccess: () => {
      setTyped('');
      close();
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (!word || typed === word) done.mutate();
  };
  return (
    <Modal opened={opened} onClose={close} title={title}>
      <form onSubmit={submit}>
        <Stack gap="sm">
          <Failure error={done.error} />
          <Text size="sm" component="div">
            {text}
          </Text>
          {children}
          {word && (
            <TextInput
              label={t("Type '{word}' to confirm", { word })}
              value={typed}
              onChange={(e) => setTyped(e.currentTarget.value)}
              autoComplete="off"
              data-autofocus
            />
          )}
          <Actions
            close={close}
            action={action}
            danger
            busy={done.isPending}
            disabled={word !== undefined && typed !== word}
          />
        </Stack>
      </form>
    </Modal>
  );
}

/** A button that asks before it does. */
export function DangerButton({
  label,
  button,
  ...dialog
}: {
  label: string;
  button?: ButtonProps & { 'aria-label'?: string };
  title: string;
  text: ReactNode;
  word?: string;
  run: () => Promise<unknown>;
}) {
  const [opened, setOpened] = useState(false);
  return (
    <>
      <Button size="compact-sm" variant="subtle" color="red" {...button} onClick={() => setOpened(true)}>
        {label}
      </Button>
      <DangerDialog {...dialog} action={label} opened={opened} close={() => setOpened(false)} />
    </>
  );
}
