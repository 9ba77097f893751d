// The way from a new server to its first device: address, storage, mail, copies, an account.
import { Alert, Button, Group, Stack, Stepper, Text, TextInput } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import { type FormEvent, useState } from 'react';
import { call } from '../../api/client';
import { accountQuery, configQuery, freeSpaceQuery, saveConfig } from '../../api/queries';
import { session } from '../../api/session';
import type { SelfBackupTarget, ServerConfig } from '../../api/types';
import { AccountName } from '../../components/AccountName';
import { Fields, on, read, written } from '../../components/Fields';
import { AnchorLink } from '../../components/links';
import { CopyIcon, Failure, Loaded, Page } from '../../components/parts';
import { t } from '../../i18n';
import { bytes, newPassword } from '../../lib/format';
import { useParam } from '../../lib/search';
import { mailFields, TestMail } from './MailSettings';
import { NoCopies, newTarget, placeFields } from './SelfBackup';

type Props = { doc: ServerConfig; change: (next: ServerConfig) => void };

function Address(part: Props) {
  const address = String(read(part.doc, 'Branding.DefaultLoginServerURL') ?? '');
  return (
    <Stack gap="md">
      <Fields
        {...part}
        fields={[
          { path: 'Branding.BrandName', label: t('Name of the service'), help: t('Stands on every page') },
          {
            path: 'Branding.DefaultLoginServerURL',
            label: t('Address that devices and people reach it at'),
            help: t('Such as https://backup.example.org'),
          },
          on('LoginProtection.Enabled', t('Slow down who guesses')),
        ]}
      />
      {address !== location.origin && (
        <Button
          variant="default"
          w="fit-content"
          maw="100%"
          className="wrap"
          onClick={() =>
            part.change(written(part.doc, 'Branding.DefaultLoginServerURL', location.origin) as ServerConfig)
          }
        >
          {t('Take the address of this page: {address}', { address: location.origin })}
        </Button>
      )}
      {address.startsWith('http:') && !/^http:\/\/(localhost|127\.)/.test(address) && (
        <Alert color="orange" variant="light">
          {t(
            'Without TLS everybody on the way reads the passwords. Put a proxy with a certificate before it, or name its files in the settings.',
          )}
        </Alert>
      )}
    </Stack>
  );
}

function Storage(part: Props) {
  const space = useQuery({ ...freeSpaceQuery(), retry: false });
  return (
    <Stack gap="md">
      <Fields
        {...part}
        fields={[
          on(
            'StorageRole.RoleEnabled',
            t('This server stores data'),
            t('Each Storage Vault gets a bucket of its own here'),
          ),
          {
            path: 'StorageRole.Storage.LocalcopyPath',
            label: t('Folder of the buckets'),
            help: t('Empty: in the folder of the server'),
          },
        ]}
      />
      {space.data && !space.data.Unlimited && (
        <Text size="sm" c="dimmed">
          {t('{size} free', { size: bytes(space.data.AvailableBytes) })}
        </Text>
      )}
      <Text size="sm" c="dimmed">
        {t(
          'Vaults can also lie elsewhere: S3, SFTP, FTP, Azure, WebDAV or a disk. Each account or a storage template says where.',
        )}
      </Text>
    </Stack>
  );
}

function Mail({ doc, change }: Props) {
  const options = doc.Email;
  return (
    <Stack gap="md">
      <Fields
        doc={options}
        change={(Email) => change({ ...doc, Email })}
        fields={mailFields(options, true, true)}
      />
      {!['', 'disabled'].includes(options.Mode ?? '') && <TestMail options={options} />}
    </Stack>
  );
}

function Copies({ doc, change }: Props) {
  const [first] = doc.SelfBackup?.Targets ?? [];
  const set = (Targets: SelfBackupTarget[]) =>
    change({ ...doc, SelfBackup: { ...doc.SelfBackup, Targets } } as ServerConfig);
  return (
    <Stack gap="md">
      <Text size="sm">
        {t(
          'Accounts, settings, jobs and keys in one ZIP file, from which a server starts anew. The data of buckets is not in it.',
        )}
      </Text>
      {first ? (
        <Fields
          doc={first}
          change={(next) => set([next, ...(doc.SelfBackup?.Targets ?? []).slice(1)])}
          fields={placeFields()}
        />
      ) : (
        <NoCopies />
      )}
      <Button
        variant="default"
        w="fit-content"
        onClick={() => set(first ? (doc.SelfBackup?.Targets ?? []).slice(1) : [newTarget()])}
      >
        {first ? t('No copies') : t('Copy it every night')}
      </Button>
    </Stack>
  );
}

function FirstAccount() {
  const [name, setName] = useState('');
  const [password, setPassword] = useState(newPassword);
  const client = useQueryClient();
  const navigate = useNavigate();
  const add = useMutation({
    mutationFn: () =>
      call('/api/v1/admin/add-user', { TargetUser: name, TargetPassword: password, StoreRecoveryCode: 1 }),
    onSuccess: async () => {
      await Promise.all(['profiles', 'names'].map((key) => client.invalidateQueries({ queryKey: [key] })));
      navigate({ to: '/install', search: { q: name } });
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    add.mutate();
  };
  return (
    <form onSubmit={submit}>
      <Stack gap="md" maw={520}>
        <Failure error={add.error} />
        <Text size="sm">{t('An account stands for a customer or a person with any number of devices.')}</Text>
        <AccountName value={name} set={setName} />
        <TextInput
          label={t('Password')}
          description={t('Keep it: it opens the backups, and the device is asked for it')}
          required
          minLength={8}
          autoComplete="off"
          value={password}
          onChange={(e) => setPassword(e.currentTarget.value)}
          rightSection={<CopyIcon value={password} label={t('Copy the password')} />}
        />
        <Group gap="xs">
          <Button type="submit" loading={add.isPending}>
            {t('Add it, then its device')}
          </Button>
          <AnchorLink to="/" size="sm">
            {t('Later')}
          </AnchorLink>
        </Group>
      </Stack>
    </form>
  );
}

const LAST = 4;

function Wizard({ config }: { config: ServerConfig }) {
  const [step, setStep] = useParam('step', { keep: true });
  const at = Math.min(LAST, Math.max(0, Number(step) - 1 || 0));
  const [draft, setDraft] = useState(config);
  const client = useQueryClient();
  const go = (n: number) => setStep(String(n + 1));
  const changed = JSON.stringify(draft) !== JSON.stringify(config);
  const save = useMutation({
    mutationFn: () => (changed ? saveConfig(draft) : Promise.resolve()),
    onSuccess: async () => {
      await Promise.all(
        ['config', 'branding', 'version', 'free-space'].map((key) =>
          client.invalidateQueries({ queryKey: [key] }),
        ),
      );
      go(LAST);
    },
  });
  const part = { doc: draft, change: setDraft };
  return (
    <Stack gap="lg" maw={900}>
      <Stepper active={at} onStepClick={go} size="xs" iconSize={26} className="wizard">
        <Stepper.Step label={t('Address')} description={t('Name, how it is reached')}>
          <Address {...part} />
        </Stepper.Step>
        <Stepper.Step label={t('Storage')} description={t('Where vaults lie')}>
          <Storage {...part} />
        </Stepper.Step>
        <Stepper.Step label={t('E-mail')} description={t('Reports and news')}>
          <Mail {...part} />
        </Stepper.Step>
        <Stepper.Step label={t('Copies')} description={t('Of the server itself')}>
          <Copies {...part} />
        </Stepper.Step>
        <Stepper.Step label={t('Account')} description={t('The first one')}>
          <FirstAccount />
        </Stepper.Step>
      </Stepper>
      <Failure error={save.error} />
      {at < LAST && (
        <Group justify="space-between" className="savebar">
          <Text size="sm" c="dimmed">
            {save.isPending ? t('The server starts anew with it…') : ''}
          </Text>
          <Group gap="xs">
            {at > 0 && (
              <Button variant="default" onClick={() => go(at - 1)}>
                {t('Back')}
              </Button>
            )}
            {at < LAST - 1 ? (
              <Button onClick={() => go(at + 1)}>{t('Next')}</Button>
            ) : (
              <Button onClick={() => save.mutate()} loading={save.isPending}>
                {changed ? t('Save and go on') : t('Next')}
              </Button>
            )}
          </Group>
        </Group>
      )}
    </Stack>
  );
}

export function Setup() {
  const config = useQuery(configQuery());
  const account = useQuery(accountQuery());
  const alone = account.data?.Security.AllowPasswordLogin;
  return (
    <Page title={t('Set up this server')}>
      {alone && (
        <Text size="sm" c="dimmed">
          {t('You are {name}, by password alone.', { name: session()?.username ?? '' })}{' '}
          <AnchorLink to="/me" inherit underline="always">
            {t('Add a second factor')}
          </AnchorLink>
        </Text>
      )}
      <Loaded query={config}>{(data) => <Wizard config={data} />}</Loaded>
    </Page>
  );
}
