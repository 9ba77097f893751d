import { Card, SimpleGrid, Text } from '@mantine/core';
import { Link } from '@tanstack/react-router';
import { isAdmin, isRunning, useConnections, useJobs, useProfiles } from '../api/queries';
import { session } from '../api/session';
import { JobTable } from '../components/JobTable';
import { Loaded, Page, Section } from '../components/parts';
import { AccountBody } from './Account';

function Tile({
  label,
  value,
  to,
  tone,
}: {
  label: string;
  value: number;
  to: '/accounts' | '/devices' | '/jobs';
  tone?: string;
}) {
  return (
    <Card withBorder padding="md" component={Link} to={to} className="plain">
      <Text size="xl" fw={650} c={value > 0 ? tone : undefined}>
        {value.toLocaleString()}
      </Text>
      <Text size="sm" c="dimmed">
        {label}
      </Text>
    </Card>
  );
}

function AdminHome() {
  const profiles = useProfiles();
  const connections = useConnections();
  const jobs = useJobs();
  const list = jobs.data ?? [];
  return (
    <Page title="Home">
      <SimpleGrid cols={{ base: 2, md: 5 }}>
        <Tile label="accounts" value={Object.keys(profiles.data ?? {}).length} to="/accounts" />
        <Tile label="devices on line" value={Object.keys(connections.data ?? {}).length} to="/devices" />
        <Tile label="running jobs" value={list.filter(isRunning).length} to="/jobs" tone="blue" />
        <Tile
          label="warnings, last 3 days"
          value={list.filter((j) => j.Status === 7001).length}
          to="/jobs"
          tone="orange"
        />
        <Tile
          label="failures, last 3 days"
          value={list.filter((j) => j.Status >= 7000 && ![7001, 7005, 7006].includes(j.Status)).length}
          to="/jobs"
          tone="red"
        />
      </SimpleGrid>
      <Section title="Latest jobs">
        <Loaded query={jobs}>{(data) => <JobTable jobs={data} limit={10} />}</Loaded>
      </Section>
    </Page>
  );
}

export function Home() {
  if (isAdmin()) return <AdminHome />;
  const username = session()?.username ?? '';
  return (
    <Page title={`Welcome, ${username}`}>
      <AccountBody username={username} />
    </Page>
  );
}
