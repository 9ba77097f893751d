// The fields of another server, as whose administrator this one signs in there.
import type { Field } from '../../components/Fields';
import { t } from '../../i18n';

export const otherServer = (): Field[] => [
  { path: 'Description', label: t('Name') },
  {
    path: 'RemoteAddress',
    label: t('Address'),
    help: t('Such as https://copy.example.com'),
    required: true,
  },
  {
    path: 'Username',
    label: t('Administrator there'),
    help: t('One of the top level, with a password alone'),
    required: true,
  },
  { path: 'Password', label: t('Password'), kind: 'secret', required: true },
];
