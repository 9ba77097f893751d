// The pages of the console: what the side bar and the command palette offer.
import type { ComponentType } from 'react';
import {
  Activity,
  Admins,
  Audit,
  Chart,
  Cluster,
  Database,
  Download,
  Groups,
  History,
  House,
  Info,
  Logs,
  Monitor,
  News,
  Package,
  Replicas,
  Settings,
  Shield,
  Tenants,
  Users,
} from '../components/icons';
import { t } from '../i18n';

export type Entry = { to: string; label: string; icon: ComponentType<{ size?: number }>; words?: string };
export type Part = { label: string; entries: Entry[] };

export function adminPages(topLevel: boolean): Part[] {
  return [
    { label: '', entries: [{ to: '/', label: t('Home'), icon: House }] },
    {
      label: t('Backups'),
      entries: [
        { to: '/accounts', label: t('Accounts'), icon: Users },
        { to: '/devices', label: t('Devices'), icon: Monitor },
        { to: '/jobs', label: t('Job history'), icon: History },
        { to: '/activity', label: t('Recent activity'), icon: Activity },
        { to: '/reports', label: t('My reports'), icon: Chart },
      ],
    },
    {
      label: t('Organize'),
      entries: [
        { to: '/policies', label: t('Policies'), icon: Shield },
        { to: '/groups', label: t('Groups'), icon: Groups },
        { to: '/news', label: t('News'), icon: News },
        ...(topLevel ? [{ to: '/tenants', label: t('Tenants'), icon: Tenants }] : []),
      ],
    },
    {
      label: t('Server'),
      entries: [
        { to: '/storage', label: t('Storage'), icon: Database },
        { to: '/install', label: t('Add a device'), icon: Package },
        { to: '/downloads', label: t('Downloads'), icon: Download },
        ...(topLevel ? [{ to: '/admins', label: t('Administrators'), icon: Admins }] : []),
        { to: '/settings', label: t('Settings'), icon: Settings },
        ...(topLevel
          ? [
              { to: '/replication', label: t('Replication'), icon: Replicas },
              { to: '/cluster', label: t('Cluster'), icon: Cluster },
              { to: '/logs', label: t('Logs'), icon: Logs },
            ]
          : []),
        { to: '/audit', label: t('Audit'), icon: Audit },
        { to: '/about', label: t('About'), icon: Info },
      ],
    },
  ];
}

export function userPages(): Part[] {
  return [
    {
      label: '',
      entries: [
        { to: '/', label: t('Home'), icon: House },
        { to: '/devices', label: t('Devices on line'), icon: Monitor },
        { to: '/jobs', label: t('Job history'), icon: History },
        { to: '/reports', label: t('My reports'), icon: Chart },
        { to: '/news', label: t('News'), icon: News },
      ],
    },
  ];
}
