// A Storage Vault: made from a storage template or from a place of one's own, or changed.
import { Alert, Button, Group, SimpleGrid, Stack, Text, TextInput, UnstyledButton } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useNavigate, useParams } from '@tanstack/react-router';
import { useMemo, useState } from 'react';
import { call } from '../../api/client';
import {
  base,
  isAdmin,
  providersQuery,
  quotasQuery,
  useConnections,
  useEditProfile,
  useProfile,
} from '../../api/queries';
import type { Profile, ProfileAndHash, SharedQuota, Vault } from '../../api/types';
import { type Field, Fields, read } from '../../components/Fields';
import { Lines } from '../../components/Lines';
import { AnchorLink } from '../../components/links';
import { Actions, Empty, Failure, Loaded, Page, Section } from '../../components/parts';
import { RetentionEditor } from '../../components/RetentionEditor';
import { t } from '../../i18n';
import { newId } from '../../lib/format';
import { keepAll } from '../../lib/schedule';
import { useParam } from '../../lib/search';
import { BUCKET, newVault, vaultKind } from '../../lib/vaults';
import { anyConnection } from './connections';
import { kinds, placeFields } from './places';

/** Asks a device whether it reaches a place. */
function Test({ vault, target }: { vault: Vault; target: string | undefined }) {
  const test = useMutation({
    mutationFn: () =>
      call(`${base()}/dispatcher/ping-destination`, { TargetID: target ?? '', ExtraData: vault }),
  });
  return (
    <Group gap="xs">
      <Button variant="default" onClick={() => test.mutate()} loading={test.isPending} disabled={!target}>
        {t('Test from a device')}
      </Button>
      {test.isSuccess && (
        <Text size="sm" c="teal" role="status">
          {t('The device reaches this place.')}
        </Text>
      )}
      {!target && (
        <Text size="sm" c="dimmed">
          {t('No device is on line to test it.')}
        </Text>
      )}
      <Failure error={test.error} />
    </Group>
  );
}

const limits = (quotas: Record<string, SharedQuota>): Field[] => [
  { path: 'StorageLimitEnabled', label: t('Limit the stored data'), kind: 'switch' },
  { path: 'StorageLimitBytes', label: t('Limit'), kind: 'gib' },
  ...(Object.keys(quotas).length > 0
    ? ([
        {
          path: 'StorageLimitID',
          label: t('Shared quota'),
          kind: 'select',
          options: [
            { value: '', label: t('None') },
            ...Object.entries(quotas).map(([value, q]) => ({ value, label: q.Description || value })),
          ],
        },
      ] as Field[])
    : []),
];

function Editor({
  profile,
  id,
  first,
  isNew,
  back,
}: {
  profile: Profile;
  id: string;
  first: Vault;
  isNew: boolean;
  back: () => void;
}) {
  const [vault, setVault] = useState(first);
  const quotas = useQuery({ ...quotasQuery(), enabled: isAdmin() });
  const edit = useEditProfile(profile.Username);
  const connections = useConnections();
  const target = anyConnection(connections.data ?? {}, profile.Username);
  const fields = placeFields(vault.DestinationType);
  const lacking = fields.some((f) => f.required && !read(vault, f.path));
  const enforced = profile.Policy?.EnforceStorageVaultRetention;
  return (
    <Stack gap="lg">
      <Failure error={edit.error} />
      <Section title={t('Place')}>
        <Stack gap="sm">
          <TextInput
            label={t('Name')}
            required
            maw={420}
            placeholder={vaultKind(vault.DestinationType)}
            value={vault.Description}
            onChange={(e) => setVault({ ...vault, Description: e.currentTarget.value })}
          />
          {vault.RebrandStorage && !isAdmin() ? (
            <Text size="sm" c="dimmed">
              {t('The provider keeps this place to itself.')}
            </Text>
          ) : (
            <>
              <Fields doc={vault} change={setVault} fields={fields} />
              {fields.length === 0 && (
                <Alert color="orange" variant="light">
                  {t('Places of the kind {kind} can not be changed here yet.', {
                    kind: vaultKind(vault.DestinationType),
                  })}
                </Alert>
              )}
              {fields.length > 0 && <Test vault={vault} target={target} />}
            </>
          )}
        </Stack>
      </Section>
      <Section
        title={t('Retention')}
        help={
          enforced
            ? t('The policy decides what stays.')
            : t('What stays of backups without a rule of their own')
        }
      >
        {!enforced && (
          <RetentionEditor
            value={vault.DefaultRetention ?? keepAll()}
            set={(next) => setVault({ ...vault, DefaultRetention: next })}
          />
        )}
      </Section>
      <Section title={t('Limits and commands')}>
        <Fields doc={vault} change={setVault} fields={limits(quotas.data ?? {})} />
        <SimpleGrid cols={{ base: 1, sm: 2 }}>
          <Lines
            label={t('Commands before')}
            value={vault.PreExec ?? []}
            set={(next) => setVault({ ...vault, PreExec: next })}
          />
          <Lines
            label={t('Commands after')}
            value={vault.PostExec ?? []}
            set={(next) => setVault({ ...vault, PostExec: next })}
          />
        </SimpleGrid>
      </Section>
      <div className="savebar">
        <Actions
          close={back}
          action={t('Save')}
          busy={edit.isPending}
          disabled={lacking}
          onClick={() =>
            edit.mutate(
              (p) => {
                p.Destinations[id] = {
                  ...p.Destinations[id],
                  ...vault,
                  // Devices keep their own counts and keys in it meanwhile.
                  ...(isNew
                    ? { AssociatedDevices: Object.keys(p.Devices) }
                    : {
                        Statistics: p.Destinations[id]?.Statistics,
                        EncryptedEncryptionKey: p.Destinations[id]?.EncryptedEncryptionKey ?? '',
                        EncryptionKeyEncryptionMethod: p.Destinations[id]?.EncryptionKeyEncryptionMethod ?? 0,
                        RepoInitTimestamp: p.Destinations[id]?.RepoInitTimestamp ?? 0,
                      }),
                  Description: vault.Description || vaultKind(vault.DestinationType),
                  ModifyTime: Math.floor(Date.now() / 1000),
                };
              },
              { onSuccess: back },
            )
          }
        />
      </div>
    </Stack>
  );
}

function Kind({
  title,
  text,
  onClick,
  busy,
}: {
  title: string;
  text: string;
  onClick: () => void;
  busy?: boolean;
}) {
  return (
    <UnstyledButton className="card choice" onClick={onClick} disabled={busy}>
      <Text fw={600} size="sm">
        {title}
      </Text>
      <Text size="sm" c="dimmed">
        {text}
      </Text>
    </UnstyledButton>
  );
}

/** Where the data of a new vault shall go. */
function Choose({ profile, back }: { profile: Profile; back: () => void }) {
  const providers = useQuery(providersQuery());
  const [kind, setKind] = useParam('where', { keep: true });
  const client = useQueryClient();
  const id = useMemo(newId, []);
  const refresh = async () => {
    await client.invalidateQueries({ queryKey: ['profile', profile.Username] });
    back();
  };
  const request = useMutation({
    mutationFn: (provider: string) =>
      call(`${base()}/request-storage-vault`, {
        TargetUser: isAdmin() ? profile.Username : undefined,
        StorageProvider: provider,
        SelfAddress: `${location.origin}/`,
      }),
    onSuccess: refresh,
  });
  const edit = useEditProfile(profile.Username);
  const here = useMutation({
    mutationFn: async () => {
      const bucket = await call<{ NewBucketID: string; NewBucketKey: string }>(
        '/api/v1/admin/storage/register-bucket',
        {
          SetOrganizationID: profile.OrganizationID || undefined,
        },
      );
      return edit.mutateAsync((p) => {
        p.Destinations[id] = {
          ...newVault(BUCKET),
          Description: t('Storage of this server'),
          CometServer: `${location.origin}/`,
          CometBucket: bucket.NewBucketID,
          CometBucketKey: bucket.NewBucketKey,
          AssociatedDevices: Object.keys(p.Devices),
        };
      });
    },
    onSuccess: (saved: ProfileAndHash) => {
      client.setQueryData(['profile', profile.Username], saved);
      back();
    },
  });
  const chosen = Number(kind);
  if (kinds().some(({ type }) => type === chosen)) {
    return <Editor key={chosen} profile={profile} id={id} first={newVault(chosen)} isNew back={back} />;
  }
  const custom = isAdmin() || !profile.Policy?.PreventAddCustomStorageVault;
  const templates = Object.entries(providers.data ?? {});
  return (
    <Stack gap="lg">
      <Failure error={request.error ?? here.error} />
      {(templates.length > 0 || isAdmin()) && (
        <Section title={t('Ready storage')} help={t('One click: the server makes the place and its keys.')}>
          <SimpleGrid cols={{ base: 1, sm: 2, md: 3 }}>
            {templates.map(([key, name]) => (
              <Kind
                key={key}
                title={name}
                text={t('From a storage template')}
                onClick={() => request.mutate(key)}
                busy={request.isPending}
              />
            ))}
            {isAdmin() && (
              <Kind
                title={t('Storage of this server')}
                text={t('A new bucket in the Storage Role here')}
                onClick={() => here.mutate()}
                busy={here.isPending}
              />
            )}
          </SimpleGrid>
        </Section>
      )}
      {custom && (
        <Section title={t('A place of your own')} help={t('The device writes there with the keys you give.')}>
          <SimpleGrid cols={{ base: 1, sm: 2, md: 4 }}>
            {kinds().map(({ type, title, text }) => (
              <Kind key={type} title={title} text={text} onClick={() => setKind(String(type))} />
            ))}
          </SimpleGrid>
        </Section>
      )}
      {!custom && templates.length === 0 && !isAdmin() && (
        <Empty>
          {t('The policy of your account does not let you add Storage Vaults. Ask your provider.')}
        </Empty>
      )}
      <Group>
        <Button variant="default" onClick={back}>
          {t('Cancel')}
        </Button>
      </Group>
    </Stack>
  );
}

export function VaultPage() {
  const { username = '', vault = '' } = useParams({ strict: false });
  const profile = useProfile(username);
  const navigate = useNavigate();
  const isNew = vault === 'new';
  const back = () => navigate({ to: '/accounts/$username', params: { username }, search: { tab: 'vaults' } });
  return (
    <Loaded query={profile}>
      {({ Profile: p }) => {
        const stored = p.Destinations[vault];
        return (
          <Page
            title={
              <>
                <AnchorLink to="/accounts/$username" params={{ username }} inherit c="dimmed">
                  {username}
                </AnchorLink>{' '}
                / {isNew ? t('New Storage Vault') : stored?.Description || vault}
              </>
            }
          >
            {isNew ? (
              <Choose profile={p} back={back} />
            ) : stored ? (
              <Editor key={vault} profile={p} id={vault} first={stored} isNew={false} back={back} />
            ) : (
              <Empty>{t('There is no such Storage Vault.')}</Empty>
            )}
          </Page>
        );
      }}
    </Loaded>
  );
}
