// The one line that installs the client on a machine and registers it.
import { Group, SegmentedControl, Stack, Switch, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { brandingQuery } from '../api/queries';
import { t } from '../i18n';
import { Command } from './parts';

/** A word of a shell command, safe whatever it holds. */
export const quoted = (word: string) =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

export type Tool = 'curl' | 'wget';

/** The choice between the two programs that fetch. */
export function ToolChoice({ tool, set }: { tool: Tool; set: (next: Tool) => void }) {
  return (
    <SegmentedControl
      size="xs"
      aria-label={t('Fetched by')}
      data={['curl', 'wget']}
      value={tool}
      onChange={(next) => set(next as Tool)}
    />
  );
}

export function InstallLine({
  server,
  token,
  user,
  lobby,
}: {
  server: string;
  token?: string;
  user?: string;
  lobby?: boolean;
}) {
  const [tool, setTool] = useState<Tool>('curl');
  const [system, setSystem] = useState(true);
  const branding = useQuery(brandingQuery());
  const at = quoted(server.replace(/\/+$/, ''));
  const words = token
    ? `--token ${quoted(token)}`
    : user !== undefined
      ? `--user ${quoted(user)}`
      : lobby
        ? '--lobby'
        : '';
  const fetched = tool === 'curl' ? `curl -fsSL ${at}/install.sh` : `wget -qO- ${at}/install.sh`;
  const line = `${fetched} | ${system ? 'sudo ' : ''}sh -s -- ${words}`.trimEnd();
  const open = branding.data?.AllowUnauthenticatedDownloads;
  // Without a log-in nothing is handed out unless everybody may have it.
  const closed = lobby && branding.data !== undefined && !open;
  return (
    <Stack gap="sm">
      <Group gap="md">
        <ToolChoice tool={tool} set={setTool} />
        <Switch
          size="xs"
          label={t('For the whole machine, as a service of the system')}
          checked={system}
          onChange={(e) => setSystem(e.currentTarget.checked)}
        />
      </Group>
      {branding.data?.AllowAuthenticatedDownloads === false && (
        <Text size="sm" c="dimmed">
          {t('This server hands out no clients now:')}{' '}
          <Link to="/settings" search={{ tab: 'roles' }}>
            {t('Roles')}
          </Link>
        </Text>
      )}
      {closed && (
        <Text size="sm" c="dimmed">
          {t('This needs downloads without signing in, which are switched off:')}{' '}
          <Link to="/settings" search={{ tab: 'roles' }}>
            {t('Roles')}
          </Link>
        </Text>
      )}
      <Command label={t('Copy the command')}>{line}</Command>
      <Text size="sm" c="dimmed">
        {system
          ? t(
              'It fetches the program from this server, checks it, registers the machine and starts a service.',
            )
          : t('It installs into the home of the user who runs it, and backs up what that user can read.')}
      </Text>
    </Stack>
  );
}
