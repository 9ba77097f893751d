// Adding a device in three steps: whose it is, the line to paste, and the device as it comes on line.
import {
  Alert,
  Button,
  Group,
  PasswordInput,
  Select,
  SimpleGrid,
  Stack,
  Text,
  TextInput,
} from '@mantine/core';
import { useMutation, useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { type FormEvent, useState } from 'react';
import { call } from '../api/client';
import { useConnections } from '../api/queries';
import type { InstallToken } from '../api/types';
import { ButtonLink } from '../components/links';
import { Command, Failure, Page, Section, Tag } from '../components/parts';
import { t } from '../i18n';
import { exact } from '../lib/format';
import { useParam } from '../lib/search';

/** A word of a shell command, safe whatever it holds. */
const quoted = (word: string) =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

/** The lines to paste. */
function Lines({ server, token, user }: { server: string; token?: string; user?: string }) {
  const at = quoted(server.replace(/\/+$/, ''));
  const register = token
    ? `encke agent register --server ${at} --token ${quoted(token)}`
    : user !== undefined
      ? `encke agent register --server ${at} --user ${quoted(user)}`
      : `encke agent lobby --server ${at}`;
  return (
    <Stack gap="sm">
      <Command label={t('Copy the command')}>{`sudo ${register}`}</Command>
      {(token || user !== undefined) && (
        <>
          <Text size="sm">{t('Then as a service, or in the foreground:')}</Text>
          <Command label={t('Copy the command')}>{'sudo encke agent install'}</Command>
          <Command label={t('Copy the command')}>{'sudo encke agent run'}</Command>
        </>
      )}
    </Stack>
  );
}

/** Waits for a device that was not on line before. */
function Arrival({ name, since }: { name: string; since: number }) {
  const connections = useConnections();
  const come = Object.values(connections.data ?? {}).find(
    (c) => c.Username === name && c.ConnectionTime >= since,
  );
  if (!come) {
    return (
      <Group gap="xs" role="status">
        <Tag tone="busy">{t('Waiting for the device')}</Tag>
        <Text size="sm" c="dimmed">
          {t('It appears here by itself.')}
        </Text>
      </Group>
    );
  }
  return (
    <Alert variant="light" color="teal" title={t('The device is on line')} role="status">
      <Group gap="xs">
        <ButtonLink
          to="/accounts/$username/items/$item"
          params={{ username: name, item: 'new' }}
          search={{ device: come.DeviceID }}
        >
          {t('Say what is backed up')}
        </ButtonLink>
        <ButtonLink
          variant="default"
          to="/accounts/$username"
          params={{ username: name }}
          search={{ tab: 'devices' }}
        >
          {t('Go to the account')}
        </ButtonLink>
      </Group>
    </Alert>
  );
}

export function Install() {
  const [name, setName] = useParam('q');
  const names = useQuery({ queryKey: ['names'], queryFn: () => call<string[]>('/api/v1/admin/list-users') });
  const [password, setPassword] = useState('');
  const [server, setServer] = useState(location.origin);
  const token = useMutation({
    mutationFn: () =>
      call<{ InstallToken: InstallToken }>('/api/v1/admin/create-install-token', {
        TargetUser: name,
        TargetPassword: password,
        Server: server,
      }),
    onSuccess: () => setPassword(''),
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    token.mutate();
  };
  const made = token.data?.InstallToken;
  const local = /^https?:\/\/(localhost|127\.|\[::1\])/.test(server);
  return (
    <Page title={t('Add a device')}>
      <Stack gap="xl" maw={860}>
        <Section
          title={t('With an install token')}
          help={t('The token stands for the log-in of the account, for one device and a short time.')}
        >
          <form onSubmit={submit} className="card">
            <Stack gap="sm">
              <Failure error={token.error} />
              <SimpleGrid cols={{ base: 1, sm: 3 }}>
                <Select
                  label={t('Account')}
                  description={t('Whose device it is')}
                  required
                  searchable
                  limit={50}
                  data={names.data ?? []}
                  value={name || null}
                  onChange={(next) => {
                    setName(next);
                    token.reset();
                  }}
                  nothingFoundMessage={t('No such account')}
                />
                <PasswordInput
                  label={t('Password of the account')}
                  description={t('It opens the keys of the vaults')}
                  required
                  autoComplete="off"
                  value={password}
                  onChange={(e) => setPassword(e.currentTarget.value)}
                />
                <TextInput
                  label={t('Address of this server')}
                  description={t('As the device reaches it')}
                  required
                  type="url"
                  value={server}
                  onChange={(e) => setServer(e.currentTarget.value)}
                />
              </SimpleGrid>
              {local && (
                <Text size="sm" c="dimmed">
                  {t('This address works on this machine alone. Give the one that other machines know.')}
                </Text>
              )}
              <Group justify="space-between">
                <Text size="sm">
                  <Link to="/accounts" search={{ dialog: 'new' }}>
                    {t('Add account')}
                  </Link>
                </Text>
                <Button type="submit" loading={token.isPending} disabled={!name}>
                  {made ? t('Make another token') : t('Make a token')}
                </Button>
              </Group>
            </Stack>
          </form>
        </Section>
        {made && (
          <Section
            title={t('Run this on the device')}
            help={t('The token is good until {time}.', { time: exact(made.ExpireTime) })}
          >
            <Lines server={server} token={made.Token} />
            <Arrival name={name} since={made.CreateTime} />
          </Section>
        )}
        <Section title={t('By name and password')} help={t('The command asks for the password.')}>
          <Lines server={server} user={name || 'NAME'} />
        </Section>
        <Section
          title={t('From the lobby')}
          help={t(
            'The machine waits until an administrator gives it an account; good for images and mass installs.',
          )}
        >
          <Lines server={server} />
          <Text size="sm">
            <Link to="/devices" search={{ tab: 'lobby' }}>
              {t('Open the lobby')}
            </Link>
          </Text>
        </Section>
      </Stack>
    </Page>
  );
}
