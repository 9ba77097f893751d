import { Stack } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useParams } from '@tanstack/react-router';
import { configQuery, saveConfig } from '../../api/queries';
import type { Admin, ServerConfig } from '../../api/types';
import { Fields, useSaved } from '../../components/Fields';
import { AnchorLink } from '../../components/links';
import { Permissions } from '../../components/Permissions';
import { Empty, Loaded, Page, Section } from '../../components/parts';
import { t } from '../../i18n';
import { useParam } from '../../lib/search';

function Editor({ config, at }: { config: ServerConfig; at: number }) {
  const stored = config.AdminUsers[at] as Admin;
  const { draft, setDraft, bar } = useSaved(
    stored,
    (next) => saveConfig({ ...config, AdminUsers: config.AdminUsers.map((a, i) => (i === at ? next : a)) }),
    ['config', 'admins', 'account'],
  );
  const part = { doc: draft, change: setDraft };
  return (
    <Stack gap="lg" maw={900}>
      <Section title={t('Signing in')} help={t('Each way by itself is enough.')}>
        <Fields
          {...part}
          fields={[
            { path: 'AllowPasswordLogin', label: t('The password alone is enough'), kind: 'switch' },
            { path: 'AllowPasswordAndTOTPLogin', label: t('Password and one-time code'), kind: 'switch' },
            { path: 'AllowPasswordAndWebAuthnLogin', label: t('Password and security key'), kind: 'switch' },
            {
              path: 'RequirePasswordChange',
              label: t('Must choose a new password next time'),
              kind: 'switch',
            },
            {
              path: 'IPWhitelist',
              label: t('Only from addresses that match'),
              help: t('A regular expression; empty: from everywhere'),
            },
          ]}
        />
      </Section>
      <Permissions {...part} tenant={stored.OrganizationID !== ''} />
      {bar}
    </Stack>
  );
}

export function AdminPage() {
  const { name = '' } = useParams({ strict: false });
  const [tenant] = useParam('where');
  const config = useQuery(configQuery());
  return (
    <Page
      title={
        <>
          <AnchorLink to="/admins" inherit c="dimmed">
            {t('Administrators')}
          </AnchorLink>{' '}
          / {name}
        </>
      }
    >
      <Loaded query={config}>
        {(data) => {
          const at = (data.AdminUsers ?? []).findIndex(
            (a) => a.Username === name && (a.OrganizationID ?? '') === tenant,
          );
          return at < 0 ? (
            <Empty>{t('There is no such administrator.')}</Empty>
          ) : (
            <Editor key={`${tenant}/${name}`} config={data} at={at} />
          );
        }}
      </Loaded>
    </Page>
  );
}
