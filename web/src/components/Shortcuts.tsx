// What the keyboard does, shown by the question mark.
import { Kbd, Modal, Table } from '@mantine/core';
import { t } from '../i18n';
import { goals } from '../lib/keys';

export function Shortcuts({ close, admin }: { close: () => void; admin: boolean }) {
  const lines: [string[], string][] = [
    [['Ctrl', 'K'], t('Search and commands')],
    [['/'], t('Search the list')],
    ...goals(admin).map(({ key, label }): [string[], string] => [['g', key], label]),
    [['↑', '↓'], t('In a list: the row before, the row after')],
    [['Home', 'End'], t('In a list: the first row, the last row')],
    [['Enter'], t('In a list: open the row')],
    [['?'], t('This help')],
  ];
  return (
    <Modal opened onClose={close} title={t('Keyboard')}>
      <Table verticalSpacing={4} aria-label={t('Keyboard')}>
        <Table.Tbody>
          {lines.map(([keys, label]) => (
            <Table.Tr key={keys.join()}>
              <Table.Td w={120}>
                {keys.map((key) => (
                  <Kbd key={key} mr={4}>
                    {key}
                  </Kbd>
                ))}
              </Table.Td>
              <Table.Td>{label}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Modal>
  );
}
