import { SimpleGrid, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { versionQuery } from '../../api/queries';
import { Command, Fact, Loaded, Page, Section, Tag, Time } from '../../components/parts';
import { t } from '../../i18n';
import { count, exact } from '../../lib/format';

const Role = ({ on, label }: { on: boolean; label: string }) => (
  <Fact label={label}>{on ? <Tag tone="good">{t('On')}</Tag> : <Tag tone="quiet">{t('Off')}</Tag>}</Fact>
);

export function About() {
  const version = useQuery(versionQuery());
  return (
    <Page title={t('About')}>
      <Loaded query={version}>
        {(v) => {
          const drift = Math.abs(v.CurrentTime - Date.now() / 1000);
          return (
            <>
              <SimpleGrid cols={{ base: 2, sm: 3, lg: 5 }} className="card">
                <Fact label={t('Version')}>
                  {v.Version} {v.VersionCodename}
                </Fact>
                <Fact label={t('Running since')}>
                  <Time unix={v.ServerStartTime} />
                </Fact>
                <Fact label={t('Time of the server')}>
                  {exact(v.CurrentTime)} {drift > 300 && <Tag tone="warn">{t('Differs from yours')}</Tag>}
                </Fact>
                <Fact label={t('Devices')}>{count(v.ConfiguredDevices)}</Fact>
                <Fact label={t('E-mails waiting')}>{count(v.EmailsWaitingInQueue)}</Fact>
                <Fact label={t('E-mails sent')}>{count(v.EmailsSentSuccessfully)}</Fact>
                <Fact label={t('E-mails failed')}>{count(v.EmailsSentErrors)}</Fact>
              </SimpleGrid>
              <Section title={t('Roles')}>
                <SimpleGrid cols={{ base: 2, sm: 4 }} className="card">
                  <Role on={v.AuthenticationRole} label={t('Accounts and jobs')} />
                  <Role on={v.StorageRole} label={t('Storage Role')} />
                  <Role on={v.SoftwareBuildRole} label={t('Build branded clients')} />
                  <Role on={v.ConstellationRole} label={t('Constellation Role')} />
                </SimpleGrid>
              </Section>
            </>
          );
        }}
      </Loaded>
      <Section
        title={t('For programs')}
        help={t('Everything this console does goes through the public API.')}
      >
        <Text size="sm">
          <a href="/docs" target="_blank" rel="noreferrer">
            {t('API reference')}
          </a>{' '}
          ·{' '}
          <a href="/docs/openapi.json" target="_blank" rel="noreferrer">
            {'OpenAPI'}
          </a>
        </Text>
        <Command
          label={t('Copy the command')}
        >{`curl -s ${location.origin}/api/v1/admin/meta/version -d Username=NAME -d AuthType=Password -d Password=PASSWORD`}</Command>
      </Section>
    </Page>
  );
}
