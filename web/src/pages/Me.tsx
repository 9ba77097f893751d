// One's own account: password, one-time codes, security keys.
import { Alert, Button, Group, Modal, Stack, Switch, Text, TextInput } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { call } from '../api/client';
import { accountQuery, isAdmin, useProfile } from '../api/queries';
import { session } from '../api/session';
import type { AdminAccount, ProfileAndHash, Totp } from '../api/types';
import { DangerButton } from '../components/Danger';
import { PasswordForm } from '../components/PasswordForm';
import { Actions, Command, Failure, Loaded, Page, Section, Tag, Time } from '../components/parts';
import { t } from '../i18n';
import { useParam } from '../lib/search';
import { hasWebAuthn, register } from '../lib/webauthn';

type Security = AdminAccount['Security'];

const saveSecurity = (Security: Partial<Security>) =>
  // A password that is not given in clear stays as it is.
  call('/api/v1/admin/account/set-properties', { Security });

/** Shows a new secret, and lets the person prove that the app has it. */
function TotpDialog({ close }: { close: () => void }) {
  const client = useQueryClient();
  const admin = isAdmin();
  const [code, setCode] = useState('');
  const secret = useMutation({
    mutationFn: async () => {
      if (admin) return call<Totp>('/api/v1/admin/account/regenerate-totp');
      const { ProfileHash } = await call<ProfileAndHash>('/api/v1/user/web/get-user-profile-and-hash');
      return call<Totp>('/api/v1/user/web/account/regenerate-totp', { ProfileHash });
    },
  });
  const prove = useMutation({
    mutationFn: async () => {
      if (admin) {
        await call('/api/v1/admin/account/validate-totp', { TOTPCode: code });
        const { Security } = await call<AdminAccount>('/api/v1/admin/account/properties');
        await saveSecurity({ ...Security, AllowPasswordLogin: false, AllowPasswordAndTOTPLogin: true });
        return;
      }
      await call('/api/v1/user/web/account/validate-totp', {
        ProfileHash: secret.data?.ProfileHash ?? '',
        TOTPCode: code,
      });
      const { Profile, ProfileHash } = await call<ProfileAndHash>(
        '/api/v1/user/web/get-user-profile-and-hash',
      );
      await call('/api/v1/user/web/set-profile-hash', {
        ProfileHash,
        ProfileData: { ...Profile, AllowPasswordLogin: false, AllowPasswordAndTOTPLogin: true },
      });
    },
    onSuccess: async () => {
      await Promise.all(['account', 'profile'].map((key) => client.invalidateQueries({ queryKey: [key] })));
      close();
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (secret.data) prove.mutate();
    else secret.mutate();
  };
  const key = secret.data ? (new URL(secret.data.URL).searchParams.get('secret') ?? '') : '';
  return (
    <Modal opened onClose={close} title={t('One-time codes')}>
      <form onSubmit={submit}>
        <Stack gap="sm">
          <Failure error={secret.error ?? prove.error} />
          {!secret.data ? (
            <Text size="sm">
              {t(
                'An app on your phone shows six digits that are asked for beside the password. An older secret stops working at once.',
              )}
            </Text>
          ) : (
            <>
              <Text size="sm">
                {t('Scan this with your authenticator app, then type the code that it shows.')}
              </Text>
              <img
                src={secret.data.Image}
                alt={t('QR code of the secret')}
                width={200}
                height={200}
                className="qr"
              />
              <Command label={t('Copy the secret')}>{key}</Command>
              <TextInput
                label={t('Code')}
                required
                inputMode="numeric"
                pattern="[0-9]{6}"
                maxLength={6}
                autoComplete="one-time-code"
                value={code}
                onChange={(e) => setCode(e.currentTarget.value)}
                data-autofocus
              />
            </>
          )}
          <Actions
            close={close}
            action={secret.data ? t('Switch on') : t('Make a secret')}
            busy={secret.isPending || prove.isPending}
          />
        </Stack>
      </form>
    </Modal>
  );
}

function Keys({ security }: { security: Security }) {
  const client = useQueryClient();
  const refresh = () => client.invalidateQueries({ queryKey: ['account'] });
  const add = useMutation({
    mutationFn: async () => {
      const SelfAddress = `${location.origin}/`;
      const asked = await call<{
        ChallengeID: string;
        CredentialCreationOptions: Record<string, unknown>;
      }>('/api/v1/admin/account/webauthn/request-registration-challenge', { SelfAddress });
      const Credential = await register(asked.CredentialCreationOptions);
      await call('/api/v1/admin/account/webauthn/submit-challenge-response', {
        SelfAddress,
        ChallengeID: asked.ChallengeID,
        Credential,
      });
    },
    onSuccess: refresh,
  });
  const keys = security.WebAuthnRegistrations ?? [];
  return (
    <Stack gap="xs">
      <Failure error={add.error} />
      {keys.map((key) => (
        <Group key={key.ID} justify="space-between" className="box">
          <div>
            <Text size="sm">{key.Description || t('Security key')}</Text>
            <Text size="xs" c="dimmed">
              {t('Added')} <Time unix={key.RegisterTime} />
            </Text>
          </div>
          <DangerButton
            label={t('Remove')}
            dialog="remove"
            which={key.ID}
            title={t('Remove the security key')}
            text={t('It can not be used to sign in any more.')}
            run={async () => {
              const left = keys.filter((k) => k.ID !== key.ID);
              await saveSecurity({
                ...security,
                WebAuthnRegistrations: left,
                ...(left.length === 0
                  ? {
                      AllowPasswordAndWebAuthnLogin: false,
                      AllowPasswordLogin: security.AllowPasswordLogin || !security.AllowPasswordAndTOTPLogin,
                    }
                  : {}),
              });
              await refresh();
            }}
          />
        </Group>
      ))}
      {keys.length === 0 && (
        <Text size="sm" c="dimmed">
          {t('No security key yet.')}
        </Text>
      )}
      <Group>
        <Button
          variant="default"
          onClick={() => add.mutate()}
          loading={add.isPending}
          disabled={!hasWebAuthn()}
        >
          {t('Add security key')}
        </Button>
        {!hasWebAuthn() && (
          <Text size="sm" c="dimmed">
            {t('Security keys need an encrypted connection (https).')}
          </Text>
        )}
      </Group>
    </Stack>
  );
}

function AdminMe() {
  const account = useQuery(accountQuery());
  const client = useQueryClient();
  const [dialog, setDialog] = useParam('dialog', { keep: true });
  const save = useMutation({
    mutationFn: (security: Partial<Security>) => saveSecurity(security),
    // Pending until the new state is here.
    onSettled: () => client.invalidateQueries({ queryKey: ['account'] }),
  });
  return (
    <Loaded query={account}>
      {({ Security: s, Permissions }) => {
        const hasCode = Boolean(s.TOTPKey);
        const hasKey = (s.WebAuthnRegistrations ?? []).length > 0;
        const way = (
          key: 'AllowPasswordLogin' | 'AllowPasswordAndTOTPLogin' | 'AllowPasswordAndWebAuthnLogin',
          label: string,
          able: boolean,
        ) => (
          <Switch
            label={label}
            // What was asked for shows at once; a refusal takes it back.
            checked={(save.isPending ? save.variables[key] : s[key]) ?? false}
            disabled={!able || save.isPending}
            onChange={(e) => save.mutate({ ...s, [key]: e.currentTarget.checked })}
          />
        );
        return (
          <>
            {dialog === 'totp' && <TotpDialog close={() => setDialog(null)} />}
            <Section title={t('Signing in')} help={t('Each way by itself is enough.')}>
              <Failure error={save.error} />
              {way('AllowPasswordLogin', t('The password alone is enough'), true)}
              {way('AllowPasswordAndTOTPLogin', t('Password and one-time code'), hasCode)}
              {way('AllowPasswordAndWebAuthnLogin', t('Password and security key'), hasKey)}
              {s.AllowPasswordLogin && (
                <Alert variant="light" color="orange">
                  {t(
                    'Whoever learns the password is in. Set up a second factor, then switch the password alone off.',
                  )}
                </Alert>
              )}
            </Section>
            <Section title={t('One-time codes')}>
              <Group>
                {hasCode ? <Tag tone="good">{t('Set up')}</Tag> : <Tag tone="quiet">{t('Not set up')}</Tag>}
                <Button variant="default" onClick={() => setDialog('totp')}>
                  {hasCode ? t('Make a new secret') : t('Set up')}
                </Button>
              </Group>
            </Section>
            <Section title={t('Security keys')}>
              <Keys security={s} />
            </Section>
            <Section title={t('Password')}>
              {Permissions?.PreventChangePassword ? (
                <Text size="sm">{t('Your permissions do not allow changing it.')}</Text>
              ) : (
                <PasswordForm done={() => undefined} />
              )}
            </Section>
          </>
        );
      }}
    </Loaded>
  );
}

function UserMe() {
  const profile = useProfile(session()?.username ?? '');
  const [dialog, setDialog] = useParam('dialog', { keep: true });
  return (
    <Loaded query={profile}>
      {({ Profile: p }) => (
        <>
          {dialog === 'totp' && <TotpDialog close={() => setDialog(null)} />}
          <Section title={t('One-time codes')}>
            <Group>
              {p.AllowPasswordAndTOTPLogin && p.TOTPKey ? (
                <Tag tone="good">{t('Set up')}</Tag>
              ) : (
                <Tag tone="quiet">{t('Not set up')}</Tag>
              )}
              <Button variant="default" onClick={() => setDialog('totp')}>
                {p.TOTPKey ? t('Make a new secret') : t('Set up')}
              </Button>
            </Group>
          </Section>
          <Section title={t('Password')}>
            {p.Policy?.PreventChangeAccountPassword ? (
              <Text size="sm">{t('Your permissions do not allow changing it.')}</Text>
            ) : (
              <PasswordForm done={() => undefined} />
            )}
          </Section>
        </>
      )}
    </Loaded>
  );
}

export function Me() {
  return (
    <Page title={t('My account')}>
      <Stack gap="xl" maw={720}>
        {isAdmin() ? <AdminMe /> : <UserMe />}
      </Stack>
    </Page>
  );
}
