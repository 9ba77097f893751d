import { Button, Center, Paper, PasswordInput, Stack, Text, TextInput, Title } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useNavigate, useRouter, useSearch } from '@tanstack/react-router';
import { type FormEvent, useEffect, useState } from 'react';
import { ApiError, rawCall } from '../api/client';
import { brandingQuery } from '../api/queries';
import { setSession } from '../api/session';
import type { SessionStarted } from '../api/types';
import { Failure } from '../components/Failure';
import { t } from '../i18n';
import { useBrand } from '../lib/brand';

type Factor = { code: boolean; challenge: string | null };

export function SignIn() {
  const { refused, next } = useSearch({ from: '/sign-in' });
  const router = useRouter();
  const navigate = useNavigate();
  const properties = useQuery(brandingQuery());
  const brand = useBrand(properties.data);
  const [name, setName] = useState('');
  const [password, setPassword] = useState('');
  const [again, setAgain] = useState('');
  const [code, setCode] = useState('');
  const [factor, setFactor] = useState<Factor | null>(null);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error | null>(null);
  const first = properties.data?.ServerIsEmpty === true;
  useEffect(() => {
    document.title = `${t('Sign in')} · ${brand.name}`;
  }, [brand.name]);

  const enter = async (second: Record<string, string>) => {
    const started = await rawCall<SessionStarted>('/api/v1/hybrid/session/start', {
      Username: name,
      AuthType: 'Password',
      Password: password,
      SelfAddress: `${location.origin}/`,
      ...second,
    });
    const kind = started.SessionType === 'admin' ? 'admin' : 'user';
    setSession({ kind, username: name, key: started.SessionKey });
    if (next) router.history.push(next);
    else await navigate({ to: '/' });
  };

  const attempt = async (work: () => Promise<void>) => {
    setBusy(true);
    setError(null);
    try {
      await work();
    } catch (failure) {
      if (failure instanceof ApiError && failure.status === 449) {
        setFactor({ code: failure.takesCode || !failure.challenge, challenge: failure.challenge });
      } else if (failure instanceof ApiError && failure.message === 'Unauthorised') {
        setError(
          new Error(
            factor
              ? t('The code or key is not right, or it has been used already')
              : t('The user name or password is not right'),
          ),
        );
      } else setError(failure as Error);
    } finally {
      setBusy(false);
    }
  };

  const submit = (event: FormEvent) => {
    event.preventDefault();
    attempt(async () => {
      if (first) {
        if (password !== again) throw new Error(t('The two differ'));
        await rawCall('/api/v1/admin/add-first-admin-user', { TargetUser: name, TargetPassword: password });
      }
      await enter(factor?.code && code ? { AuthType: 'PasswordTOTP', TOTP: code } : {});
    });
  };

  const byKey = () =>
    attempt(async () => {
      if (!factor?.challenge) return;
      const { sign } = await import('../lib/webauthn');
      let answer: string;
      try {
        answer = await sign(factor.challenge);
      } catch {
        throw new Error(t('The browser did not get an answer from the security key'));
      }
      await enter({ AuthType: 'PasswordWebAuthn', WebAuthnSign: answer });
    });

  return (
    <Center mih="100dvh" p="md" component="main">
      <Paper withBorder p="xl" w={380} maw="100%" shadow="xs">
        <form onSubmit={submit}>
          <Stack gap="sm">
            <img src={brand.logo} alt="" height={36} className="logo start" />
            <Title order={1}>{first ? t('Make the first administrator') : brand.name}</Title>
            {first && (
              <Text size="sm" c="dimmed">
                {t('This server is new. Whoever gets here first decides how it is administered.')}
              </Text>
            )}
            {refused && (
              <Failure
                error={new Error(t('The portal handed over a session that is not valid. Sign in here.'))}
              />
            )}
            <Failure error={error} />
            <TextInput
              label={t('User name')}
              name="username"
              autoComplete="username"
              required
              autoFocus
              value={name}
              onChange={(e) => setName(e.currentTarget.value)}
            />
            <PasswordInput
              label={t('Password')}
              name="password"
              autoComplete={first ? 'new-password' : 'current-password'}
              required
              value={password}
              onChange={(e) => {
                setPassword(e.currentTarget.value);
                setFactor(null);
              }}
            />
            {first && (
              <PasswordInput
                label={t('Password again')}
                autoComplete="new-password"
                required
                value={again}
                onChange={(e) => setAgain(e.currentTarget.value)}
              />
            )}
            {factor?.challenge && (
              <Button variant={factor.code ? 'default' : 'filled'} onClick={byKey} loading={busy}>
                {t('Use a security key')}
              </Button>
            )}
            {factor?.code && (
              <TextInput
                label={t('Code')}
                description={t('The six digits that your authenticator app shows')}
                name="code"
                autoComplete="one-time-code"
                inputMode="numeric"
                required
                autoFocus
                value={code}
                onChange={(e) => setCode(e.currentTarget.value)}
              />
            )}
            {(!factor || factor.code) && (
              <Button type="submit" loading={busy}>
                {first ? t('Make administrator') : t('Sign in')}
              </Button>
            )}
          </Stack>
        </form>
      </Paper>
    </Center>
  );
}
