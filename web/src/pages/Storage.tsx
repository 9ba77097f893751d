import { Alert, Button, Code, Group, Modal, Stack, Table, Text } from '@mantine/core';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { call } from '../api/client';
import { useBuckets } from '../api/queries';
import { Empty, Failure, Loaded, Page, Time } from '../components/parts';
import { bytes } from '../lib/format';

type NewBucket = { NewBucketID: string; NewBucketKey: string };

export function Storage() {
  const buckets = useBuckets();
  const client = useQueryClient();
  const add = useMutation({
    mutationFn: () => call<NewBucket>('/api/v1/admin/storage/register-bucket'),
    onSuccess: () => client.invalidateQueries({ queryKey: ['buckets'] }),
  });
  return (
    <Page
      title="Storage"
      aside={
        <Button onClick={() => add.mutate()} loading={add.isPending}>
          Add bucket
        </Button>
      }
    >
      <Failure error={add.error} />
      <Modal opened={add.data !== undefined} onClose={() => add.reset()} title="A new bucket">
        <Stack gap="sm">
          <Alert color="orange" variant="light">
            The key is shown only now.
          </Alert>
          <div>
            <Text size="xs" c="dimmed">
              Bucket
            </Text>
            <Code block>{add.data?.NewBucketID}</Code>
          </div>
          <div>
            <Text size="xs" c="dimmed">
              Key
            </Text>
            <Code block>{add.data?.NewBucketKey}</Code>
          </div>
          <Group justify="flex-end">
            <Button onClick={() => add.reset()}>Done</Button>
          </Group>
        </Stack>
      </Modal>
      <Loaded query={buckets}>
        {(data) =>
          Object.keys(data).length === 0 ? (
            <Empty>No buckets yet. A bucket holds the data of one Storage Vault on this server.</Empty>
          ) : (
            <Table.ScrollContainer minWidth={560}>
              <Table highlightOnHover verticalSpacing={6}>
                <Table.Thead>
                  <Table.Tr>
                    <Table.Th>Bucket</Table.Th>
                    <Table.Th>Created</Table.Th>
                    <Table.Th ta="right">Size</Table.Th>
                    <Table.Th>Measured</Table.Th>
                  </Table.Tr>
                </Table.Thead>
                <Table.Tbody>
                  {Object.entries(data).map(([id, bucket]) => (
                    <Table.Tr key={id}>
                      <Table.Td ff="monospace">{id}</Table.Td>
                      <Table.Td>
                        <Time unix={bucket.CreateTime} />
                      </Table.Td>
                      <Table.Td ta="right">{bytes(bucket.Size.Size)}</Table.Td>
                      <Table.Td>
                        <Time unix={bucket.Size.MeasureCompleted} />
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
