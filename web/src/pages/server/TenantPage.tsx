import { Stack } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useParams } from '@tanstack/react-router';
import { call } from '../../api/client';
import { tenantsQuery } from '../../api/queries';
import type { Organization } from '../../api/types';
import { BrandingForm } from '../../components/BrandingForm';
import { Fields, useSaved } from '../../components/Fields';
import { JsonDocument } from '../../components/JsonDocument';
import { AnchorLink } from '../../components/links';
import { Empty, Loaded, Page, Section } from '../../components/parts';
import { t } from '../../i18n';

function Editor({ id, stored }: { id: string; stored: Organization }) {
  const { draft, setDraft, save, bar } = useSaved(
    stored,
    (Organization) => call('/api/v1/admin/organization/set', { OrganizationID: id, Organization }),
    ['tenants'],
  );
  const part = { doc: draft, change: setDraft };
  return (
    <Stack gap="lg" maw={900}>
      <Section title={t('General')}>
        <Fields
          {...part}
          fields={[
            { path: 'Name', label: t('Name'), required: true },
            {
              path: 'Hosts',
              label: t('Host names'),
              help: t('Under which its people reach this server, such as backup.example.org'),
              kind: 'list',
            },
            { path: 'IsSuspended', label: t('Suspended: nobody of the tenant can sign in'), kind: 'switch' },
            {
              path: 'SoftwareBuildRole.RoleEnabled',
              label: t('Build branded clients'),
              kind: 'switch',
            },
          ]}
        />
      </Section>
      <Section title={t('Branding')} help={t('Seen by everybody who comes by one of the host names.')}>
        <BrandingForm
          doc={draft.Branding ?? ({} as Organization['Branding'])}
          change={(Branding) => setDraft({ ...draft, Branding })}
        />
      </Section>
      <Section title={t('E-mail')}>
        <Fields
          {...part}
          fields={[
            { path: 'Email.FromName', label: t('Sender') },
            { path: 'Email.FromEmail', label: t('Address of the sender') },
          ]}
        />
      </Section>
      <Section title={t('Document')}>
        <JsonDocument
          document={draft}
          schema="Organization"
          save={(next) => save.mutateAsync(next as Organization)}
        />
      </Section>
      {bar}
    </Stack>
  );
}

export function TenantPage() {
  const { id = '' } = useParams({ strict: false });
  const tenants = useQuery(tenantsQuery());
  const tenant = tenants.data?.[id];
  return (
    <Page
      title={
        <>
          <AnchorLink to="/tenants" inherit c="dimmed">
            {t('Tenants')}
          </AnchorLink>{' '}
          / {tenant?.Name ?? id}
        </>
      }
    >
      <Loaded query={tenants}>
        {() =>
          tenant ? (
            <Editor key={id} id={id} stored={tenant} />
          ) : (
            <Empty>{t('There is no such tenant.')}</Empty>
          )
        }
      </Loaded>
    </Page>
  );
}
