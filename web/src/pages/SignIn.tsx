import { Button, Center, Paper, PasswordInput, Stack, Text, TextInput, Title } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useNavigate, useRouter, useSearch } from '@tanstack/react-router';
import { type FormEvent, useState } from 'react';
import { ApiError, rawCall } from '../api/client';
import { setSession } from '../api/session';
import type { Branding, SessionStarted } from '../api/types';
import { Failure } from '../components/parts';

async function branding(): Promise<Branding> {
  const response = await fetch('/gen/branding.props');
  return response.json();
}

export function SignIn() {
  const { refused, next } = useSearch({ from: '/sign-in' });
  const router = useRouter();
  const navigate = useNavigate();
  const properties = useQuery({ queryKey: ['branding'], queryFn: branding });
  const [name, setName] = useState('');
  const [password, setPassword] = useState('');
  const [code, setCode] = useState('');
  const [needsCode, setNeedsCode] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error | null>(null);
  const first = properties.data?.ServerIsEmpty === true;

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      if (first) {
        await rawCall('/api/v1/admin/add-first-admin-user', { TargetUser: name, TargetPassword: password });
      }
      const started = await rawCall<SessionStarted>('/api/v1/hybrid/session/start', {
        Username: name,
        AuthType: needsCode ? 'PasswordTOTP' : 'Password',
        Password: password,
        TOTP: needsCode ? code : undefined,
      });
      const kind = started.SessionType === 'admin' ? 'admin' : 'user';
      setSession({ kind, username: name, key: started.SessionKey });
      if (next) router.history.push(next);
      else await navigate({ to: '/' });
    } catch (failure) {
      if (failure instanceof ApiError && failure.status === 449) setNeedsCode(true);
      else if (failure instanceof ApiError && failure.message === 'Unauthorised') {
        setError(
          new Error(
            needsCode
              ? 'The code is not right, or it has been used already'
              : 'The user name or password is not right',
          ),
        );
      } else setError(failure as Error);
    } finally {
      setBusy(false);
    }
  };

  return (
    <Center mih="100dvh" p="md">
      <Paper withBorder p="xl" w={380} maw="100%" shadow="xs">
        <form onSubmit={submit}>
          <Stack gap="sm">
            <img src="/favicon.svg" alt="" width={36} height={36} />
            <Title order={1}>
              {first ? 'Make the first administrator' : (properties.data?.BrandName ?? 'Encke')}
            </Title>
            {first && (
              <Text size="sm" c="dimmed">
                This server is new. Whoever gets here first decides how it is administered.
              </Text>
            )}
            {refused && (
              <Failure
                error={new Error('The portal handed over a session that is not valid. Sign in here.')}
              />
            )}
            <Failure error={error} />
            <TextInput
              label="User name"
              name="username"
              autoComplete="username"
              required
              autoFocus
              value={name}
              onChange={(e) => setName(e.currentTarget.value)}
            />
            <PasswordInput
              label="Password"
              name="password"
              autoComplete={first ? 'new-password' : 'current-password'}
              required
              value={password}
              onChange={(e) => setPassword(e.currentTarget.value)}
            />
            {needsCode && (
              <TextInput
                label="Code"
                description="The six digits that your authenticator app shows"
                name="code"
                autoComplete="one-time-code"
                inputMode="numeric"
                required
                autoFocus
                value={code}
                onChange={(e) => setCode(e.currentTarget.value)}
              />
            )}
            <Button type="submit" loading={busy}>
              {first ? 'Make administrator' : 'Sign in'}
            </Button>
          </Stack>
        </form>
      </Paper>
    </Center>
  );
}
