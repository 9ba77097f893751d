// Adding a device in three steps: whose it is, the one line to paste, and the device as it comes on line.
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
import { InstallLine } from '../components/InstallLine';
import { ButtonLink } from '../components/links';
import { Failure, Page, Section, Tag } from '../components/parts';
import { t } from '../i18n';
import { exact } from '../lib/format';
import { useParam } from '../lib/search';

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
            <InstallLine server={server} token={made.Token} />
            <Arrival name={name} since={made.CreateTime} />
          </Section>
        )}
        <Section title={t('By name and password')} help={t('The command asks for the password.')}>
          <InstallLine server={server} user={name || 'NAME'} />
        </Section>
        <Section
          title={t('From the lobby')}
          help={t(
            'The machine waits until an administrator gives it an account; good for images and mass installs.',
          )}
        >
          <InstallLine server={server} lobby />
          <Group gap="md">
            <Text size="sm">
              <Link to="/devices" search={{ tab: 'lobby' }}>
                {t('Open the lobby')}
              </Link>
            </Text>
            <Text size="sm">
              <Link to="/downloads">{t('Other downloads')}</Link>
            </Text>
          </Group>
        </Section>
      </Stack>
    </Page>
  );
}
