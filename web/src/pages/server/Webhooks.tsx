// Where the server posts events to, and how that fares.
import { Button, Group, Stack, Text, TextInput } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { call } from '../../api/client';
import type { WebhookOption } from '../../api/types';
import { Box, type Field, Fields, useSaved } from '../../components/Fields';
import { Lines } from '../../components/Lines';
import { CopyIcon, Failure, Loaded, Section, Tag, Time } from '../../components/parts';
import { t } from '../../i18n';
import { count } from '../../lib/format';

type Hooks = Record<string, WebhookOption>;
type Told = {
  SigningKey: string;
  Waiting: number;
  LastSuccess: number;
  LastFailure: number;
  Error: string;
};

/** The words of the protocol for what can be told. */
const EVENTS: [number, string][] = [
  [4000, 'SEVT_META_HELLO'],
  [4100, 'SEVT_ACCOUNT_NEW'],
  [4101, 'SEVT_ACCOUNT_REMOVED'],
  [4102, 'SEVT_ACCOUNT_UPDATED'],
  [4103, 'SEVT_ACCOUNT_LOGIN'],
  [4104, 'SEVT_ACCOUNT_LOGIN_FAILED'],
  [4150, 'SEVT_ACCOUNT_ADMIN_NEW'],
  [4151, 'SEVT_ACCOUNT_ADMIN_REMOVED'],
  [4152, 'SEVT_ACCOUNT_ADMIN_UPDATED'],
  [4153, 'SEVT_ACCOUNT_ADMIN_LOGIN'],
  [4154, 'SEVT_ACCOUNT_ADMIN_LOGIN_FAILED'],
  [4200, 'SEVT_JOB_NEW'],
  [4201, 'SEVT_JOB_COMPLETED'],
  [4300, 'SEVT_BUCKET_NEW'],
  [4301, 'SEVT_BUCKET_REMOVED'],
  [4400, 'SEVT_SERVER_STARTED'],
  [4403, 'SEVT_SERVER_UPDATED'],
  [4500, 'SEVT_TENANT_NEW'],
  [4501, 'SEVT_TENANT_REMOVED'],
  [4502, 'SEVT_TENANT_UPDATED'],
  [4600, 'SEVT_POLICY_NEW'],
  [4601, 'SEVT_POLICY_REMOVED'],
  [4602, 'SEVT_POLICY_UPDATED'],
  [4700, 'SEVT_DEVICE_NEW'],
  [4701, 'SEVT_DEVICE_REMOVED'],
  [4702, 'SEVT_DEVICE_LIVE_CONNECT'],
  [4703, 'SEVT_DEVICE_LIVE_DISCONNECT'],
  [4800, 'SEVT_USERGROUP_NEW'],
  [4801, 'SEVT_USERGROUP_REMOVED'],
  [4802, 'SEVT_USERGROUP_UPDATED'],
];

/** How much is told of events, and of which ones: the known kinds, and those that are named besides. */
export const eventFields = (amount: string, path: string, named: number[] | undefined): Field[] => [
  {
    path: 'Level',
    label: amount,
    kind: 'select',
    options: [
      { value: 'full', label: t('Everything') },
      { value: 'none', label: t('Only that it happened') },
    ],
  },
  {
    path,
    label: t('Only these events'),
    help: t('Empty: all'),
    kind: 'many',
    numeric: true,
    options: eventKinds(named),
  },
];

function eventKinds(named: number[] | undefined) {
  const known = new Set(EVENTS.map(([number]) => number));
  const more = (named ?? []).filter((number) => !known.has(number));
  return [
    ...EVENTS.map(([number, name]) => ({ value: String(number), label: name })),
    ...more.map((number) => ({ value: String(number), label: String(number) })),
  ];
}

function State({ name, told }: { name: string; told: Told }) {
  const client = useQueryClient();
  const renew = useMutation({
    mutationFn: () => call('/api/encke/v1/webhooks/new-key', { Name: name }),
    onSuccess: () => client.invalidateQueries({ queryKey: ['webhooks'] }),
  });
  return (
    <Stack gap={4}>
      <Group gap="md">
        {told.Error ? <Tag tone="bad">{told.Error}</Tag> : <Tag tone="good">{t('No failure')}</Tag>}
        <Text size="sm" component="span">
          {t('Last arrived')}: <Time unix={told.LastSuccess} />
        </Text>
        <Text size="sm">{t('{n} events wait', { n: count(told.Waiting) })}</Text>
      </Group>
      <Group gap="xs">
        <Text size="sm">{t('Key of the signature')}</Text>
        <CopyIcon value={told.SigningKey} label={t('Copy the key of {name}', { name })} />
        <Button size="compact-xs" variant="subtle" loading={renew.isPending} onClick={() => renew.mutate()}>
          {t('Make another key')}
        </Button>
      </Group>
      <Failure error={renew.error} />
    </Stack>
  );
}

function Hook({
  name,
  hook,
  told,
  change,
  remove,
}: {
  name: string;
  hook: WebhookOption;
  told?: Told;
  change: (next: WebhookOption) => void;
  remove: () => void;
}) {
  return (
    <Box remove={remove}>
      <Text fw={600}>{name}</Text>
      {told && <State name={name} told={told} />}
      <Fields
        doc={hook}
        change={change}
        fields={[
          { path: 'URL', label: t('Address'), wide: true, required: true },
          ...eventFields(t('How much is sent'), 'WhiteListedEventTypes', hook.WhiteListedEventTypes),
        ]}
      />
      <Lines
        label={t('Headers')}
        help={t('Name: value, one a line')}
        value={Object.entries(hook.CustomHeaders ?? {}).map(([k, v]) => `${k}: ${v}`)}
        set={(lines) =>
          change({
            ...hook,
            CustomHeaders: Object.fromEntries(
              lines.map((line) => {
                const at = line.indexOf(':');
                return at < 0 ? [line, ''] : [line.slice(0, at).trim(), line.slice(at + 1).trim()];
              }),
            ),
          })
        }
      />
    </Box>
  );
}

function Editor({ stored }: { stored: Hooks }) {
  const { draft, setDraft, bar } = useSaved(
    stored,
    (WebhookOptions) => call('/api/v1/admin/meta/webhook-options/set', { WebhookOptions }),
    ['webhooks', 'config'],
  );
  const [name, setName] = useState('');
  const told = useQuery({
    queryKey: ['webhooks', 'told'],
    queryFn: () => call<Record<string, Told>>('/api/encke/v1/webhooks/list'),
    refetchInterval: 5000,
  });
  const add = (event: FormEvent) => {
    event.preventDefault();
    const key = name.trim();
    if (key && !draft[key]) {
      setDraft({ ...draft, [key]: { URL: '', Level: 'full', CustomHeaders: {}, WhiteListedEventTypes: [] } });
    }
    setName('');
  };
  return (
    <Stack gap="md" maw={980}>
      <Section
        title={t('Webhooks')}
        help={t(
          'The server posts events to these addresses, in order, and tries again for a day. Saving drops what still waits.',
        )}
      >
        {Object.entries(draft).map(([key, hook]) => (
          <Hook
            key={key}
            name={key}
            hook={hook}
            told={told.data?.[key]}
            change={(next) => setDraft({ ...draft, [key]: next })}
            remove={() => setDraft(Object.fromEntries(Object.entries(draft).filter(([k]) => k !== key)))}
          />
        ))}
        {Object.keys(draft).length === 0 && (
          <Text size="sm" c="dimmed">
            {t('No webhooks.')}
          </Text>
        )}
        <form onSubmit={add}>
          <Group gap="xs" align="flex-end">
            <TextInput
              w={260}
              label={t('Name of the webhook')}
              value={name}
              onChange={(e) => setName(e.currentTarget.value)}
            />
            <Button type="submit" variant="default" disabled={!name.trim()}>
              {t('Add webhook')}
            </Button>
          </Group>
        </form>
      </Section>
      {bar}
    </Stack>
  );
}

export function Webhooks() {
  const hooks = useQuery({
    queryKey: ['webhooks', 'options'],
    queryFn: () => call<Hooks>('/api/v1/admin/meta/webhook-options/get'),
  });
  return <Loaded query={hooks}>{(stored) => <Editor stored={stored} />}</Loaded>;
}
