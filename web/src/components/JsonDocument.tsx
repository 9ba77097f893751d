// A document as JSON: to be read, and by experts changed, checked against the published structures.
import { Button, Group, Stack, Switch, Text, Textarea } from '@mantine/core';
import { useMutation } from '@tanstack/react-query';
import { useState } from 'react';
import { t } from '../i18n';
import { CopyIcon, Failure } from './parts';

async function problemsOf(schema: string, value: unknown): Promise<string[]> {
  const { check } = await import('../lib/schema');
  return check(schema, value);
}

export function JsonDocument({
  document: stored,
  schema,
  hidden = [],
  save,
}: {
  document: object;
  schema: string;
  /** Properties that are kept as they are and not shown. */
  hidden?: string[];
  save?: (next: object) => Promise<unknown>;
}) {
  const shown = Object.fromEntries(Object.entries(stored).filter(([key]) => !hidden.includes(key)));
  const text = JSON.stringify(shown, null, 2);
  const [draft, setDraft] = useState<string | null>(null);
  const [problems, setProblems] = useState<string[]>([]);
  const saving = useMutation({
    mutationFn: async () => {
      let next: object;
      try {
        next = JSON.parse(draft ?? text);
      } catch (error) {
        setProblems([(error as Error).message]);
        return;
      }
      const found = await problemsOf(schema, next);
      setProblems(found);
      if (found.length > 0) return;
      const kept = Object.fromEntries(Object.entries(stored).filter(([key]) => hidden.includes(key)));
      await save?.({ ...next, ...kept });
      setDraft(null);
    },
  });
  return (
    <Stack gap="xs">
      <Group justify="space-between">
        <Text size="sm" c="dimmed">
          {t('The document as the API answers it.')}
        </Text>
        <Group gap="sm">
          {save && (
            <Switch
              size="xs"
              label={t('Edit')}
              checked={draft !== null}
              onChange={(e) => {
                setDraft(e.currentTarget.checked ? text : null);
                setProblems([]);
              }}
            />
          )}
          <CopyIcon value={draft ?? text} label={t('Copy the document')} />
        </Group>
      </Group>
      <Failure error={saving.error} />
      {problems.length > 0 && (
        <Text size="sm" c="red" component="ul" role="alert" className="problems">
          {problems.map((problem) => (
            <li key={problem}>{problem}</li>
          ))}
        </Text>
      )}
      {draft === null ? (
        <pre className="json" tabIndex={0}>
          {text}
        </pre>
      ) : (
        <>
          <Textarea
            aria-label={t('Document')}
            autosize
            minRows={16}
            maxRows={32}
            spellCheck={false}
            styles={{ input: { fontFamily: 'var(--mantine-font-family-monospace)', fontSize: 12.5 } }}
            value={draft}
            onChange={(e) => setDraft(e.currentTarget.value)}
          />
          <Group justify="flex-end">
            <Button onClick={() => saving.mutate()} loading={saving.isPending} disabled={draft === text}>
              {t('Check and save')}
            </Button>
          </Group>
        </>
      )}
    </Stack>
  );
}
