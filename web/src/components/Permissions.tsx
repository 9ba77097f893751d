// What an administrator may do. Some flags deny and some grant (reference, section 4.4); the switches always say what
// is allowed.
import { useQuery } from '@tanstack/react-query';
import { policiesQuery } from '../api/queries';
import { t } from '../i18n';
import { VAULT_TYPES, vaultKind } from '../lib/vaults';
import { type Field, Fields } from './Fields';
import { Section } from './parts';

const may = (path: string, label: string): Field => ({ path, label, kind: 'switch', inverted: true });
const granted = (path: string, label: string): Field => ({ path, label, kind: 'switch' });

export function Permissions<D>({
  doc,
  change,
  tenant,
  at = 'Permissions',
}: {
  doc: D;
  change: (doc: D) => void;
  tenant: boolean;
  at?: string;
}) {
  const policies = useQuery(policiesQuery());
  const p = (name: string) => `${at}.${name}`;
  const part = { doc, change };
  return (
    <>
      <Section title={t('May')}>
        <Fields
          {...part}
          fields={[
            may(p('PreventEditServerSettings'), t('Change server settings')),
            may(p('PreventServerShutdown'), t('Restart and stop the server')),
            may(p('PreventChangePassword'), t('Change the own password')),
            may(p('DenyViewServerHistory'), t('See statistics of the server')),
            may(p('DenyViewServerInfo'), t('See version and roles')),
            may(p('DenyConstellationRole'), t('Use the Constellation Role')),
            may(p('DenySoftwareBuildRole'), t('Build branded clients')),
            may(p('PreventRequestStorageVault'), t('Add Storage Vaults by template')),
            may(p('PreventAddCustomStorageVault'), t('Add Storage Vaults of their own')),
            may(p('PreventDeleteStorageVault'), t('Delete Storage Vaults')),
            may(p('HideCloudStorageBranding'), t('See the real kind of cloud storage')),
          ]}
        />
      </Section>
      {tenant && (
        <Section title={t('May, for the own tenant')}>
          <Fields
            {...part}
            fields={[
              granted(p('AllowEditBranding'), t('Change the branding')),
              granted(p('AllowEditEmailOptions'), t('Change e-mail settings')),
              granted(p('AllowEditRemoteStorage'), t('Change storage templates')),
              granted(p('AllowEditWebhooks'), t('Change webhooks')),
              granted(p('AllowEditExternalAuthSources'), t('Change external log-in')),
            ]}
          />
        </Section>
      )}
      <Section title={t('Only')} help={t('Empty: all')}>
        <Fields
          {...part}
          fields={[
            {
              path: p('AllowedUserPolicies'),
              label: t('Policies'),
              kind: 'many',
              options: Object.entries(policies.data ?? {}).map(([value, x]) => ({
                value,
                label: x.Description || value,
              })),
            },
            granted(p('ShouldRestrictProviderList'), t('Only some kinds of storage')),
            {
              path: p('AllowedProvidersWhenRestricted'),
              label: t('Allowed kinds'),
              kind: 'many',
              numeric: true,
              options: VAULT_TYPES.map((x) => ({ value: String(x), label: vaultKind(x) })),
            },
          ]}
        />
      </Section>
    </>
  );
}
