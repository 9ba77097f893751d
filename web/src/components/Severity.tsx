import { SegmentedControl } from '@mantine/core';
import { t } from '../i18n';

/** How bad a line must be to be shown; the least word is kept in the address. */
export const Severity = ({ value, set }: { value: string; set: (next: string) => void }) => (
  <SegmentedControl
    data={[
      { value: '', label: t('All') },
      { value: 'warnings', label: t('Warnings') },
      { value: 'errors', label: t('Errors') },
    ]}
    value={value}
    onChange={set}
    aria-label={t('Severity')}
  />
);
