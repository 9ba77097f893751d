// Pages that two letters lead to: g, then the page's own.
import { useRouter } from '@tanstack/react-router';
import { useEffect } from 'react';
import { t } from '../i18n';

export const goals = (admin: boolean) => [
  { key: 'h', to: '/', label: t('Home') },
  ...(admin
    ? [
        { key: 'a', to: '/accounts', label: t('Accounts') },
        { key: 'r', to: '/activity', label: t('Recent activity') },
        { key: 's', to: '/storage', label: t('Storage') },
        { key: 'p', to: '/policies', label: t('Policies') },
      ]
    : []),
  { key: 'd', to: '/devices', label: t('Devices') },
  { key: 'j', to: '/jobs', label: t('Job history') },
  { key: 'm', to: '/me', label: t('My account') },
];

/** How long after the first letter the second one counts, in milliseconds. */
const PAUSE = 1200;

/** Follows the letters wherever nobody types. */
export function useGoals(admin: boolean) {
  const { history } = useRouter();
  useEffect(() => {
    let first = 0;
    const onKey = (event: KeyboardEvent) => {
      const at = event.target as HTMLElement;
      const types = at.closest('input, textarea, select, [contenteditable], [role=dialog], [role=menu]');
      if (types || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === 'g') {
        first = Date.now();
        return;
      }
      const goal = Date.now() - first < PAUSE && goals(admin).find(({ key }) => key === event.key);
      first = 0;
      if (goal) history.push(goal.to);
    };
    window.addEventListener('keydown', onKey);
    return () => window.removeEventListener('keydown', onKey);
  }, [admin, history]);
}
