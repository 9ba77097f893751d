import { Button, type ButtonProps, Modal, Stack, Text, TextInput } from '@mantine/core';
import { useMutation } from '@tanstack/react-query';
import { type FormEvent, type ReactNode, useState } from 'react';
import { t } from '../i18n';
import { useDialog } from '../lib/search';
import { Actions, Failure } from './parts';

type Question = {
  text: ReactNode;
  action: string;
  /** What has to be typed where much is lost. */
  word?: string;
  run: () => Promise<unknown>;
  close: () => void;
  /** Where to go when it is done, instead of back to the page. */
  leave?: () => void;
  children?: ReactNode;
};

function Ask({ text, action, word, run, close, leave = close, children }: Question) {
  const [typed, setTyped] = useState('');
  const done = useMutation({ mutationFn: run, onSuccess: leave });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (!word || typed === word) done.mutate();
  };
  return (
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
  );
}

/** Asks before something is lost; where it is much, the name has to be typed. */
export function DangerDialog({ opened, title, ...question }: { opened: boolean; title: string } & Question) {
  return (
    <Modal opened={opened} onClose={question.close} title={title}>
      <Ask {...question} />
    </Modal>
  );
}

/** A button that asks before it does. The question has an address: `dialog` is its name on the page. */
export function DangerButton({
  label,
  button,
  dialog: name,
  which,
  ...question
}: {
  label: string;
  dialog: string;
  /** What it is asked of, where the page has many. */
  which?: string;
  button?: ButtonProps & { 'aria-label'?: string };
  title: string;
} & Omit<Question, 'action' | 'close'>) {
  const [opened, setOpened] = useDialog(name, which);
  return (
    <>
      <Button size="compact-sm" variant="subtle" color="red" {...button} onClick={() => setOpened(true)}>
        {label}
      </Button>
      <DangerDialog {...question} action={label} opened={opened} close={() => setOpened(false)} />
    </>
  );
}
