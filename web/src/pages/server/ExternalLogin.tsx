// Other systems that administrators sign in by: OpenID Connect providers and directories.
import { Button, Collapse, Group, PasswordInput, Stack, Text, TextInput } from '@mantine/core';
import { useMutation, useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { call } from '../../api/client';
import { tenantsQuery, useTopLevel } from '../../api/queries';
import type { LoginSource } from '../../api/types';
import { Box, type Field, FieldList, Fields, useSaved } from '../../components/Fields';
import { Lines } from '../../components/Lines';
import { Permissions } from '../../components/Permissions';
import { Command, Failure, Loaded, Section } from '../../components/parts';
import { t } from '../../i18n';
import { newId } from '../../lib/format';

type Sources = Record<string, LoginSource>;

const server = (at: string): Field[] => [
  { path: `${at}Hostname`, label: t('Server') },
  { path: `${at}Port`, label: t('Port'), kind: 'number', max: 65535, help: t('0: the usual one') },
  {
    path: `${at}SecurityMethod`,
    label: t('Encryption'),
    kind: 'select',
    options: [
      { value: 'ldaps', label: 'LDAPS' },
      { value: 'starttls', label: 'StartTLS' },
      { value: 'plain', label: t('None') },
    ],
  },
  { path: `${at}AcceptInvalidSSL`, label: t('Accept any certificate'), kind: 'switch' },
];

const ldap = (): Field[] => [
  ...server('LDAP.'),
  {
    path: 'LDAP.BindUser',
    label: t('Sign in as'),
    help: t('Who searches; with %{USER}, whoever signs in. Empty: nobody'),
  },
  {
    path: 'LDAP.BindPassword',
    label: t('Password'),
    kind: 'secret',
    help: t('%{PASS}: the password of whoever signs in'),
  },
  { path: 'LDAP.SearchDN', label: t('Search below'), help: t('Such as ou=people,dc=example,dc=com') },
  {
    path: 'LDAP.SearchFilter',
    label: t('Search filter'),
    help: t(
      'Finds one entry for the name %{USER}, such as (&(uid=%{USER})(memberOf=cn=admins,dc=example,dc=com))',
    ),
  },
];

const oidc = (source: LoginSource): Field[] => [
  { path: 'OIDC.DisplayName', label: t('Text of the button') },
  {
    path: 'OIDC.Provider',
    label: t('Provider'),
    kind: 'select',
    options: [
      { value: 'oidc', label: 'OpenID Connect' },
      { value: 'azure-ad-v2', label: 'Microsoft Entra ID' },
      { value: 'google', label: 'Google' },
    ],
  },
  { path: 'OIDC.ClientID', label: t('Client ID') },
  { path: 'OIDC.ClientSecret', label: t('Client secret'), kind: 'secret' },
  source.OIDC?.Provider === 'azure-ad-v2'
    ? { path: 'OIDC.AzureTenantID', label: t('Directory of Entra ID') }
    : source.OIDC?.Provider === 'google'
      ? { path: 'OIDC.GoogleHostedDomain', label: t('Domain at Google') }
      : { path: 'OIDC.DiscoveryDocumentURL', label: t('Address of the discovery document') },
  { path: 'OIDC.Scopes', label: t('Scopes'), kind: 'list', help: t('Empty: profile and email') },
  { path: 'OIDC.Hosts', label: t('Only at these host names'), kind: 'list' },
  { path: 'OIDC.SkipMFA', label: t('No second factor of this server'), kind: 'switch' },
];

/** Asks the other system, with the settings as they stand in the form. */
function Trial({ id, source }: { id: string; source: LoginSource }) {
  const [name, setName] = useState('');
  const [password, setPassword] = useState('');
  const trial = useMutation({
    mutationFn: () =>
      call('/api/encke/v1/external-auth-sources/test', {
        Source: source,
        SourceID: id,
        ...(name ? { TestUser: name, TestPassword: password } : {}),
      }),
  });
  return (
    <Stack gap="xs">
      <Group gap="xs" align="end">
        {source.Type === 'ldap' && (
          <>
            <TextInput
              label={t('Name to try')}
              autoComplete="off"
              value={name}
              onChange={(e) => setName(e.currentTarget.value)}
            />
            <PasswordInput
              label={t('Password to try')}
              autoComplete="off"
              miw={180}
              value={password}
              onChange={(e) => setPassword(e.currentTarget.value)}
            />
          </>
        )}
        <Button variant="default" loading={trial.isPending} onClick={() => trial.mutate()}>
          {t('Try it')}
        </Button>
        {trial.isSuccess && (
          <Text size="sm" c="teal" role="status">
            {name ? t('Lets {name} in.', { name }) : t('Can be reached.')}
          </Text>
        )}
      </Group>
      <Failure error={trial.error} />
    </Stack>
  );
}

function Source({
  id,
  source,
  change,
  remove,
}: {
  id: string;
  source: LoginSource;
  change: (next: LoginSource) => void;
  remove: () => void;
}) {
  const topLevel = useTopLevel();
  const tenants = useQuery({ ...tenantsQuery(), enabled: topLevel === true });
  const [open, setOpen] = useState(false);
  const isLdap = source.Type === 'ldap';
  const organization: Field = {
    path: 'OIDC.OrganizationID',
    label: t('Tenant'),
    kind: 'select',
    options: [
      { value: '', label: t('None: the top level') },
      ...Object.entries(tenants.data ?? {}).map(([value, o]) => ({ value, label: o.Name })),
    ],
  };
  const fields = [
    { path: 'Description', label: t('Name') },
    ...(topLevel ? [organization] : []),
    ...(isLdap ? ldap() : oidc(source)),
  ];
  return (
    <Box remove={remove}>
      <Text fw={600} size="sm">
        {isLdap ? 'LDAP' : 'OpenID Connect'}
      </Text>
      <Fields doc={source} change={change} fields={fields} />
      {isLdap ? (
        <FieldList
          doc={source}
          change={change}
          path="LDAP.FallbackServers"
          add={t('Add a server that takes over')}
          empty={t('No server takes over when this one can not be reached.')}
          create={() => ({ Hostname: '', Port: 0, SecurityMethod: 'ldaps', AcceptInvalidSSL: false })}
          fields={server('')}
        />
      ) : (
        <>
          <Lines
            label={t('Required claims')}
            help={t('Name: value, one a line')}
            value={(source.OIDC?.RequiredClaims ?? []).map((c) => `${c.Name}: ${c.Value ?? ''}`.trim())}
            set={(lines) =>
              change({
                ...source,
                OIDC: {
                  ...source.OIDC,
                  RequiredClaims: lines.map((line) => {
                    const at = line.indexOf(':');
                    return at < 0
                      ? { Name: line, Value: '' }
                      : { Name: line.slice(0, at).trim(), Value: line.slice(at + 1).trim() };
                  }),
                },
              } as LoginSource)
            }
          />
          <Text size="sm">{t('Address to register at the provider (redirect URI)')}</Text>
          <Command label={t('Copy')}>{`${location.origin}/external-login/callback`}</Command>
        </>
      )}
      <Trial id={id} source={source} />
      <Button
        variant="subtle"
        w="fit-content"
        size="compact-sm"
        aria-expanded={open}
        onClick={() => setOpen(!open)}
      >
        {t('Permissions of new administrators')}
      </Button>
      <Collapse expanded={open}>
        {open && (
          <Permissions
            doc={source}
            change={change}
            at="NewUserPermissions"
            tenant={!topLevel || Boolean(source.OIDC?.OrganizationID)}
          />
        )}
      </Collapse>
    </Box>
  );
}

function Editor({ stored }: { stored: Sources }) {
  const { draft, setDraft, bar } = useSaved(
    stored,
    (Sources) => call('/api/v1/admin/external-auth-sources/set', { Sources }),
    ['external-login', 'branding', 'config'],
  );
  const add = (Type: 'oidc' | 'ldap') =>
    setDraft({
      ...draft,
      [newId()]: {
        Type,
        Description: '',
        NewUserPermissions: {},
        ...(Type === 'oidc'
          ? { OIDC: { DisplayName: '', Provider: 'oidc', ClientID: '', ClientSecret: '', SkipMFA: false } }
          : {
              LDAP: {
                Hostname: '',
                Port: 0,
                SecurityMethod: 'ldaps',
                AcceptInvalidSSL: false,
                FallbackServers: [],
                BindUser: '',
                BindPassword: '',
                SearchDN: '',
                SearchFilter: '(uid=%{USER})',
              },
            }),
      } as unknown as LoginSource,
    });
  return (
    <>
      {Object.entries(draft).map(([id, source]) => (
        <Source
          key={id}
          id={id}
          source={source}
          change={(next) => setDraft({ ...draft, [id]: next })}
          remove={() => setDraft(Object.fromEntries(Object.entries(draft).filter(([k]) => k !== id)))}
        />
      ))}
      {Object.keys(draft).length === 0 && (
        <Text size="sm" c="dimmed">
          {t('Administrators sign in with the passwords of this server.')}
        </Text>
      )}
      <Group gap="xs">
        <Button variant="default" onClick={() => add('oidc')}>
          {t('Add OpenID Connect')}
        </Button>
        <Button variant="default" onClick={() => add('ldap')}>
          {t('Add LDAP')}
        </Button>
      </Group>
      {bar}
    </>
  );
}

export function ExternalLogin() {
  const sources = useQuery({
    queryKey: ['external-login'],
    queryFn: () => call<Sources>('/api/v1/admin/external-auth-sources/get'),
  });
  return (
    <Section
      title={t('External log-in')}
      help={t(
        'OpenID Connect and LDAP for administrators. Whoever signs in by them the first time becomes an administrator; those of a system that is removed can not sign in.',
      )}
    >
      <Loaded query={sources}>{(stored) => <Editor stored={stored} />}</Loaded>
    </Section>
  );
}
