import { TextInput } from '@mantine/core';
import { t } from '../i18n';

/** The name of a new account. */
export const AccountName = ({ value, set }: { value: string; set: (next: string) => void }) => (
  <TextInput
    label={t('Account name')}
    description={t('Letters, digits and _ . @ -')}
    required
    maxLength={255}
    pattern="[A-Za-z0-9_.@\-]+"
    value={value}
    onChange={(e) => set(e.currentTarget.value)}
    data-autofocus
  />
);
