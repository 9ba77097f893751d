// The clients that this server hands out: to the browser, or by a command on the machine itself.
import { Button, Group, Stack, Switch, Text, TextInput } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { call, callFile } from '../api/client';
import { brandingQuery } from '../api/queries';
import { session } from '../api/session';
import { InstallLine, quoted, type Tool, ToolChoice } from '../components/InstallLine';
import { Download } from '../components/icons';
import { ButtonLink } from '../components/links';
import { Command, Empty, Failure, Loaded, Page, Section, Tag } from '../components/parts';
import { t } from '../i18n';
import { bytes, saveBlob } from '../lib/format';

type Platform = { Category: string; Description: string; Recommended: boolean };

const BY_PLATFORM = '/api/v1/admin/branding/generate-client/by-platform';

/** Names of the files, by the number of the platform. */
const FILES: Record<string, string> = { '1': 'encke.run', '2': 'encke.deb' };

/** What to do with a file once it is there. */
const NEXT: Record<string, string> = {
  '1': 'sudo sh encke.run --token TOKEN',
  '2': 'sudo ENCKE_INSTALL_TOKEN=TOKEN dpkg -i encke.deb',
};

function OnePlatform({ number, platform, tool }: { number: string; platform: Platform; tool: Tool }) {
  const [come, setCome] = useState(0);
  const branding = useQuery(brandingQuery());
  const file = FILES[number] ?? 'encke';
  const fetching = useMutation({
    mutationFn: async () => {
      const fields = { Platform: number, SelfAddress: location.origin };
      saveBlob(file, await callFile(BY_PLATFORM, fields, new AbortController().signal, setCome));
    },
    onSettled: () => setCome(0),
  });
  const at = quoted(`${location.origin}${BY_PLATFORM}`);
  const open = branding.data?.AllowUnauthenticatedDownloads;
  const log_in = open
    ? ''
    : `Username=${encodeURIComponent(session()?.username ?? 'NAME')}&AuthType=Password&Password=PASSWORD&`;
  const form = quoted(`${log_in}Platform=${number}`);
  const line =
    tool === 'curl'
      ? `curl -fsS -o ${file} -d ${form} ${at}`
      : `wget -q -O ${file} --post-data=${form} ${at}`;
  return (
    <div className="card">
      <Stack gap="sm">
        <Group justify="space-between" gap="xs">
          <div>
            <Group gap="xs">
              <Text fw={600}>{platform.Description}</Text>
              {platform.Recommended && <Tag tone="good">{t('Recommended')}</Tag>}
            </Group>
            <Text size="sm" c="dimmed">
              {platform.Category}
            </Text>
          </div>
          <Button
            variant="default"
            leftSection={<Download size={14} />}
            loading={fetching.isPending}
            onClick={() => fetching.mutate()}
            aria-label={t('Download {name}', { name: file })}
          >
            {t('Download')}
          </Button>
        </Group>
        {come > 0 && (
          <Text size="sm" c="dimmed" role="status">
            {bytes(come)}
          </Text>
        )}
        <Failure error={fetching.error} />
        <Command label={t('Copy the command that fetches {name}', { name: file })}>{line}</Command>
        <Command label={t('Copy the command that installs {name}', { name: file })}>
          {NEXT[number] ?? ''}
        </Command>
      </Stack>
    </div>
  );
}

/** Whether everybody may fetch clients. */
function Openness() {
  const client = useQueryClient();
  const branding = useQuery(brandingQuery());
  const open = branding.data?.AllowUnauthenticatedDownloads ?? false;
  const change = useMutation({
    mutationFn: async () => {
      const { SoftwareBuildRole } = await call<{ SoftwareBuildRole: object }>(
        '/api/v1/admin/meta/build-config/get',
      );
      await call('/api/v1/admin/meta/build-config/set', {
        SoftwareBuildRoleConfig: { ...SoftwareBuildRole, AllowUnauthenticatedDownloads: !open },
      });
    },
    onSettled: () => client.invalidateQueries({ queryKey: brandingQuery().queryKey }),
  });
  return (
    <Stack gap={4}>
      <Switch
        label={t('Downloads without signing in')}
        description={t('Clients hold no secret. Without this, a token or a log-in is asked for.')}
        checked={open}
        disabled={change.isPending || branding.data === undefined}
        onChange={() => change.mutate()}
      />
      <Failure error={change.error} />
    </Stack>
  );
}

export function Downloads() {
  const [tool, setTool] = useState<Tool>('curl');
  const [server, setServer] = useState(location.origin);
  const platforms = useQuery({
    queryKey: ['platforms'],
    retry: false,
    queryFn: () => call<Record<string, Platform>>('/api/v1/admin/branding/available-platforms'),
  });
  return (
    <Page title={t('Downloads')} aside={<ButtonLink to="/install">{t('Add a device')}</ButtonLink>}>
      <Stack gap="xl" maw={860}>
        <Section
          title={t('Install by one line')}
          help={
            <>
              {t('Put an install token in the place of TOKEN:')}{' '}
              <Link to="/install">{t('Make a token')}</Link>
            </>
          }
        >
          <TextInput
            label={t('Address of this server')}
            description={t('As the device reaches it')}
            type="url"
            maw={420}
            value={server}
            onChange={(e) => setServer(e.currentTarget.value)}
          />
          <InstallLine server={server} token="TOKEN" />
        </Section>
        <Section
          title={t('Files')}
          help={t('Each holds the program of this server, and its address.')}
          aside={<ToolChoice tool={tool} set={setTool} />}
        >
          <Loaded query={platforms}>
            {(data) =>
              Object.keys(data).length === 0 ? (
                <Empty>{t('This server builds no clients.')}</Empty>
              ) : (
                <Stack gap="sm">
                  {Object.entries(data).map(([number, platform]) => (
                    <OnePlatform key={number} number={number} platform={platform} tool={tool} />
                  ))}
                </Stack>
              )
            }
          </Loaded>
        </Section>
        <Section title={t('Who may fetch them')}>
          <Openness />
        </Section>
      </Stack>
    </Page>
  );
}
