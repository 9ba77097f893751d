// Small parts that many pages share.
import { ActionIcon, Alert, Button, Code, Group, Loader, Stack, Text, Title, Tooltip } from '@mantine/core';
import { useClipboard } from '@mantine/hooks';
import { type ReactNode, useEffect, useRef } from 'react';
import { t } from '../i18n';
import { exact, relative, statusName, statusTone, type Tone } from '../lib/format';
import { Failure } from './Failure';
import { Check, Copy } from './icons';

export const TONES: Record<Tone, string> = {
  good: 'teal',
  busy: 'blue',
  warn: 'orange',
  bad: 'red',
  quiet: 'gray',
};

export { Failure };

/** A short state in words and colour. */
export function Tag({ tone, children }: { tone: Tone; children: ReactNode }) {
  return (
    <span className="tag" data-tone={tone}>
      {children}
    </span>
  );
}

export function StatusBadge({ status }: { status: number }) {
  return (
    <span className="tag" data-tone={statusTone(status)} data-status={status}>
      {statusName(status)}
    </span>
  );
}

export function Time({ unix }: { unix: number }) {
  if (!unix)
    return (
      <Text span c="dimmed" inherit>
        –
      </Text>
    );
  return (
    <Tooltip label={exact(unix)} openDelay={200}>
      <time dateTime={new Date(unix * 1000).toISOString()}>{relative(unix)}</time>
    </Tooltip>
  );
}

export function Page({
  title,
  aside,
  wide,
  children,
}: {
  title: ReactNode;
  aside?: ReactNode;
  wide?: boolean;
  children: ReactNode;
}) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    const name = heading.current?.innerText.replaceAll('\n', ' ');
    document.title = `${name} · ${document.documentElement.dataset.brand ?? 'Encke'}`;
  }, [title]);
  return (
    <Stack gap="md" maw={wide ? undefined : 1440}>
      <Group justify="space-between" gap="xs">
        <Title order={1} ref={heading}>
          {title}
        </Title>
        <Group gap="xs">{aside}</Group>
      </Group>
      {children}
    </Stack>
  );
}

export function Section({
  title,
  aside,
  help,
  children,
}: {
  title: string;
  aside?: ReactNode;
  help?: ReactNode;
  children: ReactNode;
}) {
  return (
    <Stack gap="xs" component="section">
      <Group justify="space-between" gap="xs">
        <div>
          <Title order={2}>{title}</Title>
          {help && (
            <Text size="sm" c="dimmed">
              {help}
            </Text>
          )}
        </div>
        {aside && <Group gap="xs">{aside}</Group>}
      </Group>
      {children}
    </Stack>
  );
}

/** What stands where there is nothing yet: what it is, and what to do next. */
export function Empty({ children, action }: { children: ReactNode; action?: ReactNode }) {
  return (
    <Stack gap="xs" py="lg" px="md" align="center" className="empty">
      <Text c="dimmed" component="div" ta="center" maw={560}>
        {children}
      </Text>
      {action}
    </Stack>
  );
}

/** Shows what a query is waiting for or failed at, else its data. */
export function Loaded<T>({
  query,
  children,
}: {
  query: { data: T | undefined; error: Error | null };
  children: (data: T) => ReactNode;
}) {
  if (query.data !== undefined) return <>{children(query.data)}</>;
  if (query.error) {
    return (
      <Alert color="red" variant="light" title={t('This could not be loaded')}>
        {query.error.message}
      </Alert>
    );
  }
  return <Loader size="sm" role="status" aria-label={t('Loading')} />;
}

export function Fact({ label, children }: { label: string; children: ReactNode }) {
  return (
    <div className="fact">
      <Text size="xs" c="dimmed">
        {label}
      </Text>
      <Text component="div" size="sm">
        {children}
      </Text>
    </div>
  );
}

export function CopyIcon({ value, label = t('Copy') }: { value: string; label?: string }) {
  const { copy, copied } = useClipboard();
  return (
    <Tooltip label={copied ? t('Copied') : label}>
      <ActionIcon size="sm" aria-label={label} onClick={() => copy(value)}>
        {copied ? <Check size={14} /> : <Copy size={14} />}
      </ActionIcon>
    </Tooltip>
  );
}

/** A command or secret to be copied. */
export function Command({ children, label = t('Copy') }: { children: string; label?: string }) {
  return (
    <Group gap={4} wrap="nowrap" className="command">
      <Code block tabIndex={0} flex={1} aria-label={label}>
        {children}
      </Code>
      <CopyIcon value={children} label={label} />
    </Group>
  );
}

/** The end of a dialog: away, or on. */
export function Actions({
  close,
  action,
  busy,
  disabled,
  danger,
  onClick,
}: {
  close: () => void;
  action: string;
  busy?: boolean;
  disabled?: boolean;
  danger?: boolean;
  /** Without it the button submits its form. */
  onClick?: () => void;
}) {
  return (
    <Group justify="flex-end" gap="xs" mt="xs">
      <Button variant="default" onClick={close}>
        {t('Cancel')}
      </Button>
      <Button
        type={onClick ? 'button' : 'submit'}
        onClick={onClick}
        loading={busy}
        disabled={disabled}
        color={danger ? 'red' : undefined}
      >
        {action}
      </Button>
    </Group>
  );
}

export function OnlineTag({ live }: { live: number }) {
  if (live === 0) return <Tag tone="quiet">{t('Off line')}</Tag>;
  return <Tag tone="good">{live > 1 ? t('On line ({n})', { n: live }) : t('On line')}</Tag>;
}
