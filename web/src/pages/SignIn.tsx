import { Button, Center, Divider, Paper, PasswordInput, Stack, Text, TextInput, Title } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useNavigate, useRouter, useSearch } from '@tanstack/react-router';
import { type FormEvent, useEffect, useRef, useState } from 'react';
import { ApiError, rawCall } from '../api/client';
import { brandingQuery } from '../api/queries';
import { setSession } from '../api/session';
import type { SessionStarted } from '../api/types';
import { Failure } from '../components/Failure';
import { t } from '../i18n';
import { useBrand } from '../lib/brand';

type Factor = { code: boolean; challenge: string | null };
/** Signed in by another system, but for the second factor. */
type Half = { username: string; key: string };
type External = { Username: string; SessionKey: string; Pending: boolean };

/** Where the way through another system leads to in the end. */
const NEXT = 'encke-next';

export function SignIn() {
  const { refused, external, next } = useSearch({ from: '/sign-in' });
  const router = useRouter();
  const navigate = useNavigate();
  const properties = useQuery(brandingQuery());
  const brand = useBrand(properties.data);
  const [name, setName] = useState('');
  const [password, setPassword] = useState('');
  const [again, setAgain] = useState('');
  const [code, setCode] = useState('');
  const [factor, setFactor] = useState<Factor | null>(null);
  const [half, setHalf] = useState<Half | null>(null);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error | null>(null);
  const first = properties.data?.ServerIsEmpty === true;
  const buttons = properties.data?.ExternalAuthenticationSources ?? [];
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
    await goOn(next);
  };

  const goOn = async (to: string | undefined) => {
    if (to) router.history.push(to);
    else await navigate({ to: '/' });
  };

  const lift = async ({ username, key }: Half, second: Record<string, string>) => {
    await rawCall('/api/v1/admin/account/session-upgrade', {
      Username: username,
      AuthType: 'SessionKey',
      SessionKey: key,
      ...second,
    });
    await enterFromElsewhere({ username, key });
  };

  const enterFromElsewhere = async ({ username, key }: Half) => {
    setSession({ kind: 'admin', username, key });
    const to = sessionStorage.getItem(NEXT) ?? undefined;
    sessionStorage.removeItem(NEXT);
    await goOn(to);
  };

  /** Leaves for another system, which sends the browser back here. */
  const leave = (address: string) => {
    if (next) sessionStorage.setItem(NEXT, next);
    else sessionStorage.removeItem(NEXT);
    location.assign(`${address}?self_address=${encodeURIComponent(`${location.origin}/`)}`);
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
      if (half) await lift(half, { AuthType: 'TOTP', TOTP: code });
      else await enter(factor?.code && code ? { AuthType: 'PasswordTOTP', TOTP: code } : {});
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
      if (half) await lift(half, { WebAuthnSign: answer });
      else await enter({ AuthType: 'PasswordWebAuthn', WebAuthnSign: answer });
    });

  const fetched = useRef(false);
  // What came back can be fetched once.
  useEffect(() => {
    if (!external || fetched.current) return;
    fetched.current = true;
    attempt(async () => {
      const come = await rawCall<External>('/external-login/session', {});
      const who = { username: come.Username, key: come.SessionKey };
      if (!come.Pending) return enterFromElsewhere(who);
      setHalf(who);
      // Answers which second factor is wanted.
      await lift(who, {});
    });
  }, []);

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
            {half ? (
              <Text size="sm">{t('One more step to sign in as {name}', { name: half.username })}</Text>
            ) : (
              <>
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
              </>
            )}
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
            {!first && !half && buttons.length > 0 && (
              <>
                <Divider label={t('or')} />
                {buttons.map((source) => (
                  <Button
                    key={source.LoginStartURL}
                    variant="default"
                    onClick={() => leave(source.LoginStartURL)}
                  >
                    {source.DisplayName}
                  </Button>
                ))}
              </>
            )}
          </Stack>
        </form>
      </Paper>
    </Center>
  );
}
