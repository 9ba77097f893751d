// The first rows of a report, as they will be.
import { Alert, Loader, Table, Text } from '@mantine/core';
import { type Cell, type ColumnType, type Report, usePreview } from '../../api/reports';
import { Empty } from '../../components/parts';
import { plural, t } from '../../i18n';
import { Chart } from './Chart';

function show(cell: Cell, type: ColumnType) {
  if (cell === null || cell === undefined)
    return (
      <Text span c="dimmed" inherit>
        –
      </Text>
    );
  if (typeof cell === 'number') {
    if (type === 'DATE') return new Date(cell).toISOString().slice(0, 10);
    if (type === 'DATETIME') return new Date(cell).toLocaleString();
    if (type === 'AMOUNT') return cell.toLocaleString(undefined, { minimumFractionDigits: 2 });
    return String(cell);
  }
  // Pictures of other places are not fetched from within the console.
  if (type === 'IMAGELINK' && cell.startsWith('/'))
    return <img src={cell} alt="" width={24} height={24} loading="lazy" />;
  return cell;
}

export function PreviewTable({ report }: { report: Report | null }) {
  const preview = usePreview(report);
  if (preview.error) {
    return (
      <Alert color="orange" variant="light" title={t('No preview')}>
        {preview.error.message}
      </Alert>
    );
  }
  if (!preview.data) {
    return report ? (
      <Loader size="sm" aria-label={t('Loading')} />
    ) : (
      <Empty>{t('Choose at least one column.')}</Empty>
    );
  }
  const { Columns, Rows, More, Sampled } = preview.data;
  const right = (type: ColumnType) => (type === 'NUMBER' || type === 'AMOUNT' ? 'right' : undefined);
  return (
    <>
      {report?.chart && <Chart chart={report.chart} preview={preview.data} />}
      <Table.ScrollContainer
        className="boxed"
        minWidth={300}
        maxHeight="70vh"
        scrollAreaProps={{ viewportProps: { tabIndex: 0 } }}
      >
        <Table
          highlightOnHover
          verticalSpacing={4}
          stickyHeader
          aria-label={t('Preview')}
          style={{ whiteSpace: 'nowrap' }}
        >
          <Table.Thead>
            <Table.Tr>
              {Columns.map((c) => (
                <Table.Th key={c.key} ta={right(c.type)}>
                  {c.name}
                </Table.Th>
              ))}
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {Rows.map((row, at) => (
              <Table.Tr key={at}>
                {Columns.map((c, i) => (
                  <Table.Td key={c.key} ta={right(c.type)}>
                    {show(row[i] ?? null, c.type)}
                  </Table.Td>
                ))}
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
      <Text c="dimmed" size="sm" role="status">
        {Rows.length === 0
          ? t('No row fits.')
          : More
            ? t('The first {n} rows.', { n: Rows.length })
            : plural(Rows.length, 'The only row.', 'All {n} rows.')}
        {Sampled && ` ${t('Shown of a smaller sample.')}`}
      </Text>
    </>
  );
}
