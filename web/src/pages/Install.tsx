// Adding a device: an account, an install token, and the command to paste.
import { Button, Group, PasswordInput, Select, SimpleGrid, Stack, Text, TextInput } from '@mantine/core';
import { useMutation, useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { type FormEvent, useState } from 'react';
import { call } from '../api/client';
import type { InstallToken } from '../api/types';
import { AnchorLink } from '../components/links';
import { Command, Failure, Page, Section } from '../components/parts';
import { t } from '../i18n';
import { exact } from '../lib/format';
import { useParam } from '../lib/search';

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
  const run = 'encke agent run';
  return (
    <Page title={t('Add a device')}>
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
                required
                searchable
                limit={50}
                data={names.data ?? []}
                value={name || null}
                onChange={setName}
                nothingFoundMessage={t('No such account')}
              />
              <PasswordInput
                label={t('Password of the account')}
                required
                autoComplete="off"
                value={password}
                onChange={(e) => setPassword(e.currentTarget.value)}
              />
              <TextInput
                label={t('Address of this server')}
                description={t('As the device reaches it')}
                required
                value={server}
                onChange={(e) => setServer(e.currentTarget.value)}
              />
            </SimpleGrid>
            <Group justify="flex-end">
              <Button type="submit" loading={token.isPending} disabled={!name}>
                {t('Make a token')}
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
          <Command
            label={t('Copy the command')}
          >{`encke agent register --server ${server} --token ${made.Token} && ${run}`}</Command>
          <Text size="sm">
            <AnchorLink to="/accounts/$username" params={{ username: name }} search={{ tab: 'devices' }}>
              {t('Go to the account: the device appears there by itself.')}
            </AnchorLink>
          </Text>
        </Section>
      )}
      <Section title={t('By name and password')} help={t('The command asks for the password.')}>
        <Command
          label={t('Copy the command')}
        >{`encke agent register --server ${server} --user ${name || 'NAME'} && ${run}`}</Command>
      </Section>
      <Section
        title={t('From the lobby')}
        help={t(
          'The machine waits until an administrator gives it an account; good for images and mass installs.',
        )}
      >
        <Command label={t('Copy the command')}>{`encke agent lobby --server ${server}`}</Command>
        <Text size="sm">
          <Link to="/devices" search={{ tab: 'lobby' }}>
            {t('Open the lobby')}
          </Link>
        </Text>
      </Section>
    </Page>
  );
}
