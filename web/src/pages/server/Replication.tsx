// The servers that this one copies itself to: where they are, and how far each copy is.
import { Alert, Button, Group, List, Stack, Text } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { call } from '../../api/client';
import { configQuery, saveConfig } from '../../api/queries';
import type { ReplicaServer, ReplicaState, ServerConfig } from '../../api/types';
import { Box, Fields, useSaved } from '../../components/Fields';
import { Empty, Fact, Failure, Loaded, Page, Section, Tag, Time } from '../../components/parts';
import { t } from '../../i18n';
import { bytes, count } from '../../lib/format';
import { otherServer } from './otherServer';

/** What the published state leaves out. */
type Details = {
  RemoteServerID: string;
  DisplayClass: number;
  Address: string;
  Running: boolean;
  LastContact: number;
  LastComplete: number;
  LastError: string;
  LastErrorTime: number;
  Refused: { Item: string; Error: string; Tries: number }[];
};
type Copy = { state: ReplicaState; details: Details };
type Role = 'AuthenticationRole' | 'StorageRole';

/** `DisplayClass` of the parts. */
const CLASS: Record<Role, number> = { AuthenticationRole: 101, StorageRole: 100 };
/** Bit of `State`: both sides are being listed. */
const LISTING = 2;
/** How often the numbers are asked for, in milliseconds. */
const OFTEN = 2000;

/** Every copy with both halves of what is known about it. */
async function copies(): Promise<Copy[]> {
  const [states, details] = await Promise.all([
    call<ReplicaState[]>('/api/v1/admin/replication/state'),
    call<Details[]>('/api/encke/v1/replication/details'),
  ]);
  const same = (state: ReplicaState) => (d: Details) =>
    d.RemoteServerID === state.RemoteServerID && d.DisplayClass === state.DisplayClass;
  return states.flatMap((state) => {
    const found = details.find(same(state));
    return found ? [{ state, details: found }] : [];
  });
}

function Verdict({ state, details }: Copy) {
  if (!details.Running) return <Tag tone="quiet">{t('Not copied by this server now')}</Tag>;
  if (state.State === 0) {
    return details.LastError ? (
      <Tag tone="bad">{t('Nothing can be copied now')}</Tag>
    ) : (
      <Tag tone="busy">{t('Connecting')}</Tag>
    );
  }
  if (state.State & LISTING) return <Tag tone="busy">{t('Comparing both sides')}</Tag>;
  if (details.Refused.length > 0) return <Tag tone="warn">{t('Not everything could be copied')}</Tag>;
  if (state.ItemsQueued > 0) return <Tag tone="busy">{t('Copying')}</Tag>;
  return <Tag tone="good">{t('Up to date')}</Tag>;
}

function State({ copy }: { copy: Copy }) {
  const { state, details } = copy;
  const client = useQueryClient();
  const again = useMutation({
    mutationFn: () => call('/api/encke/v1/replication/restart', { RemoteServerID: state.RemoteServerID }),
    onSuccess: () => client.invalidateQueries({ queryKey: ['replication'] }),
  });
  return (
    <Stack gap="sm">
      <Group justify="space-between" gap="xs">
        <Verdict {...copy} />
        {details.Running && (
          <Button
            size="compact-sm"
            variant="default"
            onClick={() => again.mutate()}
            loading={again.isPending}
          >
            {t('Compare now')}
          </Button>
        )}
      </Group>
      <Failure error={again.error} />
      <Group gap="xl">
        <Fact label={t('Waiting')}>
          {count(state.ItemsQueued)} · {bytes(state.BytesQueued)}
        </Fact>
        <Fact label={t('Copied since the start')}>
          {count(state.ItemsReplicated)} · {bytes(state.BytesReplicated)}
        </Fact>
        <Fact label={t('Workers')}>
          {t('{n} of {all}', { n: count(state.ActiveWorkers), all: count(state.TotalWorkers) })}
        </Fact>
        <Fact label={t('Last complete')}>
          <Time unix={details.LastComplete} />
        </Fact>
        <Fact label={t('Last heard of')}>
          <Time unix={details.LastContact} />
        </Fact>
      </Group>
      {details.LastError && (state.State === 0 || details.Refused.length === 0) && (
        <Alert color={state.State === 0 ? 'red' : 'orange'} variant="light">
          <Text size="sm" style={{ overflowWrap: 'anywhere' }}>
            {details.LastError}
          </Text>
          <Text size="xs" component="div">
            <Time unix={details.LastErrorTime} />
          </Text>
        </Alert>
      )}
      {details.Refused.length > 0 && (
        <List size="sm" aria-label={t('What could not be copied')} style={{ overflowWrap: 'anywhere' }}>
          {details.Refused.map((one) => (
            <List.Item key={one.Item}>
              <Text size="sm" fw={600} span>
                {one.Item}
              </Text>{' '}
              {one.Error} ({t('tried {n} times', { n: count(one.Tries) })})
            </List.Item>
          ))}
        </List>
      )}
    </Stack>
  );
}

const newTarget = () =>
  ({
    Type: 'comet',
    Description: '',
    RemoteAddress: 'https://',
    Username: '',
    Password: '',
    ReplicaDeletionStrategy: 'none',
  }) as unknown as ReplicaServer;

function Targets({
  role,
  doc,
  change,
  copies: all,
}: {
  role: Role;
  doc: ServerConfig;
  change: (next: ServerConfig) => void;
  /** Nothing while something is not saved: places in the lists would not match. */
  copies: Copy[] | undefined;
}) {
  const accounts = role === 'AuthenticationRole';
  const targets = (doc[role]?.ReplicateTo ?? []) as ReplicaServer[];
  const set = (ReplicateTo: ReplicaServer[]) =>
    change({ ...doc, [role]: { ...doc[role], ReplicateTo } } as ServerConfig);
  const these = all?.filter((copy) => copy.state.DisplayClass === CLASS[role]) ?? [];
  return (
    <Section
      title={accounts ? t('Accounts') : t('Buckets')}
      help={
        accounts
          ? t('Accounts with their policies, groups and shared quotas; no jobs, no settings.')
          : t('Every bucket with all it holds. Buckets are never deleted there.')
      }
    >
      {targets.length === 0 && <Empty>{t('Copied to no other server.')}</Empty>}
      {targets.map((one, index) => {
        const copy = these[index];
        return (
          // The list has no names of its own.
          <Box key={`${index}-${targets.length}`} remove={() => set(targets.filter((_, i) => i !== index))}>
            {copy && <State copy={copy} />}
            <Fields
              doc={one}
              change={(next) => set(targets.map((old, i) => (i === index ? next : old)))}
              fields={[
                ...otherServer(),
                ...(accounts
                  ? [
                      {
                        path: 'ReplicaDeletionStrategy',
                        label: t('What is deleted there'),
                        kind: 'select' as const,
                        wide: true,
                        options: [
                          { value: 'none', label: t('Nothing') },
                          { value: 'circular', label: t('What was copied and is deleted here') },
                          { value: 'complete', label: t('Everything that is not here') },
                        ],
                      },
                    ]
                  : []),
              ]}
            />
          </Box>
        );
      })}
      <Button variant="default" w="fit-content" onClick={() => set([...targets, newTarget()])}>
        {accounts ? t('Copy accounts to a server') : t('Copy buckets to a server')}
      </Button>
    </Section>
  );
}

function Forms({ config }: { config: ServerConfig }) {
  const { draft, setDraft, changed, bar } = useSaved(config, saveConfig, [
    'config',
    'version',
    'replication',
  ]);
  const state = useQuery({ queryKey: ['replication'], queryFn: copies, refetchInterval: OFTEN });
  const part = { doc: draft, change: setDraft, copies: changed ? undefined : state.data };
  return (
    <Stack gap="xl" maw={980}>
      <Failure error={state.error} />
      <Targets role="AuthenticationRole" {...part} />
      <Targets role="StorageRole" {...part} />
      {bar}
    </Stack>
  );
}

export function Replication() {
  const config = useQuery(configQuery());
  return (
    <Page title={t('Replication')}>
      <Text size="sm" c="dimmed">
        {t(
          'This server copies itself to other servers, one way and all the time. What is here wins. Saving restarts the server.',
        )}
      </Text>
      <Loaded query={config}>{(stored) => <Forms config={stored} />}</Loaded>
    </Page>
  );
}
