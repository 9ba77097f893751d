// Choosing a new password, for administrators and users.
import { Button, Group, PasswordInput, Stack } from '@mantine/core';
import { useMutation } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { ApiError, call, rawCall } from '../api/client';
import { isAdmin } from '../api/queries';
import { session, setSession } from '../api/session';
import type { AdminAccount, ProfileAndHash, SessionStarted } from '../api/types';
import { t } from '../i18n';
import { Failure } from './parts';

async function change(present: string, next: string) {
  if (isAdmin()) {
    const { Security } = await call<AdminAccount>('/api/v1/admin/account/properties');
    await call('/api/v1/admin/account/set-properties', {
      Password: present,
      Security: { ...Security, Password: next, PasswordFormat: 0, RequirePasswordChange: false },
    });
  } else {
    const { ProfileHash } = await call<ProfileAndHash>('/api/v1/user/web/get-user-profile-and-hash');
    await call('/api/v1/user/web/account/reset-password', {
      ProfileHash,
      OldPassword: present,
      NewPassword: next,
    });
  }
  // The change ends every session, this one too.
  const who = session();
  try {
    const started = await rawCall<SessionStarted>('/api/v1/hybrid/session/start', {
      Username: who?.username ?? '',
      AuthType: 'Password',
      Password: next,
    });
    if (who) setSession({ ...who, key: started.SessionKey });
  } catch (error) {
    // A second factor is wanted: the sign-in page asks for it.
    if (error instanceof ApiError) setSession(null);
    else throw error;
  }
}

export function PasswordForm({ done }: { done: () => void }) {
  const [present, setPresent] = useState('');
  const [next, setNext] = useState('');
  const [again, setAgain] = useState('');
  const save = useMutation({
    mutationFn: () => change(present, next),
    onSuccess: () => {
      setPresent('');
      setNext('');
      setAgain('');
      done();
    },
  });
  const differs = again !== '' && next !== again;
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (next === again) save.mutate();
  };
  return (
    <form onSubmit={submit}>
      <Stack gap="sm" maw={420}>
        <Failure error={save.error} />
        <PasswordInput
          label={t('Present password')}
          required
          autoComplete="current-password"
          value={present}
          onChange={(e) => setPresent(e.currentTarget.value)}
        />
        <PasswordInput
          label={t('New password')}
          description={t('At least 8 characters')}
          required
          minLength={8}
          autoComplete="new-password"
          value={next}
          onChange={(e) => setNext(e.currentTarget.value)}
        />
        <PasswordInput
          label={t('New password again')}
          required
          autoComplete="new-password"
          error={differs ? t('The two differ') : undefined}
          value={again}
          onChange={(e) => setAgain(e.currentTarget.value)}
        />
        <Group>
          <Button type="submit" loading={save.isPending} disabled={differs}>
            {t('Change password')}
          </Button>
        </Group>
      </Stack>
    </form>
  );
}
