// Other systems that administrators could sign in by. The settings are kept as the API knows them.
import { Alert, Button, Group, Stack, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { call } from '../../api/client';
import type { LoginSource, ServerConfig } from '../../api/types';
import { type Field, Fields } from '../../components/Fields';
import { Section } from '../../components/parts';
import { t } from '../../i18n';
import { newId } from '../../lib/format';

const ldap = (): Field[] => [
  { path: 'LDAP.Hostname', label: t('Server') },
  { path: 'LDAP.Port', label: t('Port'), kind: 'number' },
  {
    path: 'LDAP.SecurityMethod',
    label: t('Encryption'),
    kind: 'select',
    options: [
      { value: 'ldaps', label: 'LDAPS' },
      { value: 'starttls', label: 'StartTLS' },
      { value: 'plain', label: t('None') },
    ],
  },
  { path: 'LDAP.AcceptInvalidSSL', label: t('Accept any certificate'), kind: 'switch' },
  { path: 'LDAP.BindUser', label: t('Sign in as') },
  { path: 'LDAP.BindPassword', label: t('Password'), kind: 'secret' },
  { path: 'LDAP.SearchDN', label: t('Search below') },
  { path: 'LDAP.SearchFilter', label: t('Search filter') },
];

const fieldsOf = (source: LoginSource): Field[] => {
  if (source.Type === 'ldap') return ldap();
  const provider = source.OIDC?.Provider;
  return [
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
    ...(provider === 'azure-ad-v2'
      ? [{ path: 'OIDC.AzureTenantID', label: t('Directory of Entra ID') }]
      : provider === 'google'
        ? [{ path: 'OIDC.GoogleHostedDomain', label: t('Domain at Google') }]
        : [{ path: 'OIDC.DiscoveryDocumentURL', label: t('Address of the discovery document') }]),
    { path: 'OIDC.Scopes', label: t('Scopes'), kind: 'list' },
    { path: 'OIDC.Hosts', label: t('Only at these host names'), kind: 'list' },
    { path: 'OIDC.SkipMFA', label: t('No second factor of this server'), kind: 'switch' },
  ];
};

export function ExternalLogin({ doc, change }: { doc: ServerConfig; change: (next: ServerConfig) => void }) {
  const served = useQuery({
    queryKey: ['external-login'],
    retry: false,
    queryFn: () => call<object>('/api/v1/admin/external-auth-sources/get'),
  });
  const sources = doc.ExternalAdminUserSources ?? {};
  const set = (ExternalAdminUserSources: ServerConfig['ExternalAdminUserSources']) =>
    change({ ...doc, ExternalAdminUserSources });
  const add = (Type: 'oidc' | 'ldap') =>
    set({
      ...sources,
      [newId()]: {
        Type,
        Description: '',
        NewUserPermissions: {},
        ...(Type === 'oidc'
          ? { OIDC: { DisplayName: '', Provider: 'oidc', ClientID: '', ClientSecret: '', SkipMFA: false } }
          : { LDAP: { Hostname: '', Port: 636, SecurityMethod: 'ldaps', AcceptInvalidSSL: false } }),
      } as unknown as LoginSource,
    });
  return (
    <Section title={t('External log-in')} help={t('OpenID Connect and LDAP for administrators.')}>
      {served.error && (
        <Alert color="orange" variant="light" title={t('This server does not sign in by them yet')}>
          {t('The settings are kept, so that they come along with a configuration, and nothing uses them.')}{' '}
          {t('The server says: {message}', { message: served.error.message })}
        </Alert>
      )}
      {Object.entries(sources).map(([id, source]) => (
        <div className="box" key={id}>
          <Stack gap="sm">
            <Text fw={600} size="sm">
              {source.Type === 'ldap' ? 'LDAP' : 'OpenID Connect'}
            </Text>
            <Fields
              doc={source}
              change={(next) => set({ ...sources, [id]: next })}
              fields={[{ path: 'Description', label: t('Name') }, ...fieldsOf(source)]}
            />
            <Group justify="flex-end">
              <Button
                size="compact-sm"
                variant="subtle"
                color="red"
                onClick={() => set(Object.fromEntries(Object.entries(sources).filter(([k]) => k !== id)))}
              >
                {t('Remove')}
              </Button>
            </Group>
          </Stack>
        </div>
      ))}
      {Object.keys(sources).length === 0 && (
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
    </Section>
  );
}
