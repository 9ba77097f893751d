import { Button, CopyButton, Group, Table } from '@mantine/core';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { call } from '../api/client';
import { type SavedReport, useReports } from '../api/queries';
import { Empty, Failure, Loaded, Page } from '../components/parts';

function Share({ report }: { report: SavedReport }) {
  const code = useMutation({
    mutationFn: () =>
      call<{ Path: string }>('/api/encke/v1/reports/generate-code', { ReportID: report.ReportID }),
  });
  if (!code.data) {
    return (
      <Button size="compact-sm" variant="light" onClick={() => code.mutate()} loading={code.isPending}>
        Generate API code
      </Button>
    );
  }
  return (
    <CopyButton value={location.origin + code.data.Path}>
      {({ copied, copy }) => (
        <Button size="compact-sm" variant="light" color={copied ? 'teal' : undefined} onClick={copy}>
          {copied ? 'Copied' : 'Copy address'}
        </Button>
      )}
    </CopyButton>
  );
}

export function Reports() {
  const reports = useReports();
  const client = useQueryClient();
  const refresh = () => client.invalidateQueries({ queryKey: ['reports'] });
  const sample = useMutation({
    mutationFn: () => call('/api/encke/v1/reports/save-sample'),
    onSuccess: refresh,
  });
  const remove = useMutation({
    mutationFn: (id: string) => call('/api/encke/v1/reports/delete', { ReportID: id }),
    onSuccess: refresh,
  });
  return (
    <Page
      title="My reports"
      aside={
        <Button variant="default" onClick={() => sample.mutate()} loading={sample.isPending}>
          Add sample report
        </Button>
      }
    >
      <Failure error={sample.error ?? remove.error} />
      <Loaded query={reports}>
        {(data) =>
          data.length === 0 ? (
            <Empty>No reports yet. The sample report shows how one is shared by API code.</Empty>
          ) : (
            <Table highlightOnHover verticalSpacing={6}>
              <Table.Thead>
                <Table.Tr>
                  <Table.Th>Report</Table.Th>
                  <Table.Th ta="right">Columns</Table.Th>
                  <Table.Th ta="right">Rows</Table.Th>
                  <Table.Th />
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {data.map((report) => (
                  <Table.Tr key={report.ReportID}>
                    <Table.Td>{report.Name}</Table.Td>
                    <Table.Td ta="right">{report.Report.columns.length}</Table.Td>
                    <Table.Td ta="right">{report.Report.data.size?.toLocaleString()}</Table.Td>
                    <Table.Td>
                      <Group gap="xs" justify="flex-end" wrap="nowrap">
                        <Share report={report} />
                        <Button
                          size="compact-sm"
                          variant="subtle"
                          color="red"
                          onClick={() => remove.mutate(report.ReportID)}
                        >
                          Delete
                        </Button>
                      </Group>
                    </Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          )
        }
      </Loaded>
    </Page>
  );
}
