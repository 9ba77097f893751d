import { Button, Table } from '@mantine/core';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { call } from '../api/client';
import { isAdmin, useConnections } from '../api/queries';
import { Empty, Failure, Loaded, Page, Time } from '../components/parts';

export function Devices() {
  const connections = useConnections();
  const client = useQueryClient();
  const base = isAdmin() ? '/api/v1/admin' : '/api/v1/user/web';
  const drop = useMutation({
    mutationFn: (id: string) => call(`${base}/dispatcher/drop-connection`, { TargetID: id }),
    onSettled: () => client.invalidateQueries({ queryKey: ['connections'] }),
  });
  return (
    <Page title={isAdmin() ? 'Connected devices' : 'Devices on line'}>
      <Failure error={drop.error} />
      <Loaded query={connections}>
        {(data) =>
          Object.keys(data).length === 0 ? (
            <Empty>No device is on line. A device appears here as soon as its agent runs.</Empty>
          ) : (
            <Table.ScrollContainer minWidth={680}>
              <Table highlightOnHover verticalSpacing={6}>
                <Table.Thead>
                  <Table.Tr>
                    <Table.Th>Account</Table.Th>
                    <Table.Th>Device</Table.Th>
                    <Table.Th>System</Table.Th>
                    <Table.Th>Address</Table.Th>
                    <Table.Th>Since</Table.Th>
                    <Table.Th />
                  </Table.Tr>
                </Table.Thead>
                <Table.Tbody>
                  {Object.entries(data).map(([id, c]) => (
                    <Table.Tr key={id}>
                      <Table.Td>
                        {isAdmin() ? (
                          <Link to="/accounts/$username" params={{ username: c.Username }}>
                            {c.Username}
                          </Link>
                        ) : (
                          c.Username
                        )}
                      </Table.Td>
                      <Table.Td ff="monospace">{c.DeviceID.slice(0, 12)}</Table.Td>
                      <Table.Td>
                        {c.ReportedPlatformVersion?.distribution} {c.ReportedPlatformVersion?.version} (
                        {c.ReportedPlatform})
                      </Table.Td>
                      <Table.Td>{c.IPAddress}</Table.Td>
                      <Table.Td>
                        <Time unix={c.ConnectionTime} />
                      </Table.Td>
                      <Table.Td ta="right">
                        <Button
                          size="compact-sm"
                          variant="subtle"
                          color="gray"
                          onClick={() => drop.mutate(id)}
                        >
                          Reconnect
                        </Button>
                      </Table.Td>
                    </Table.Tr>
                  ))}
                </Table.Tbody>
              </Table>
            </Table.ScrollContainer>
          )
        }
      </Loaded>
    </Page>
  );
}
