// Small parts that several pages share.
import { Alert, Badge, Group, Loader, Stack, Text, Title, Tooltip } from '@mantine/core';
import type { ReactNode } from 'react';
import { exact, relative, statusName, statusTone, type Tone } from '../lib/format';

const COLORS: Record<Tone, string> = {
  good: 'teal',
  busy: 'blue',
  warn: 'orange',
  bad: 'red',
  quiet: 'gray',
};

export function StatusBadge({ status }: { status: number }) {
  return (
    <Badge variant="light" color={COLORS[statusTone(status)]} tt="none" data-status={status}>
      {statusName(status)}
    </Badge>
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
    <Tooltip label={exact(unix)}>
      <time dateTime={new Date(unix * 1000).toISOString()}>{relative(unix)}</time>
    </Tooltip>
  );
}

export function Page({
  title,
  aside,
  children,
}: {
  title: ReactNode;
  aside?: ReactNode;
  children: ReactNode;
}) {
  return (
    <Stack gap="md" maw={1300}>
      <Group justify="space-between">
        <Title order={1}>{title}</Title>
        <Group gap="xs">{aside}</Group>
      </Group>
      {children}
    </Stack>
  );
}

export function Section({ title, children }: { title: string; children: ReactNode }) {
  return (
    <Stack gap="xs">
      <Title order={2}>{title}</Title>
      {children}
    </Stack>
  );
}

export function Empty({ children }: { children: ReactNode }) {
  return (
    <Text c="dimmed" py="sm">
      {children}
    </Text>
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
      <Alert color="red" variant="light" title="This could not be loaded">
        {query.error.message}
      </Alert>
    );
  }
  return <Loader size="sm" aria-label="Loading" />;
}

export function Failure({ error }: { error: Error | null }) {
  if (!error) return null;
  return (
    <Alert color="red" variant="light" role="alert">
      {error.message}
    </Alert>
  );
}
