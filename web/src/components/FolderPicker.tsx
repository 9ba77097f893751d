import { Anchor, Breadcrumbs, Loader } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { deviceFolder } from '../api/queries';
import { t } from '../i18n';
import { Folder } from './icons';
import { Failure } from './parts';

/** Chooses one folder of a device. */
export function FolderPicker({
  target,
  value,
  set,
}: {
  target: string;
  value: string;
  set: (path: string) => void;
}) {
  const folder = useQuery({ ...deviceFolder(target, value || '/'), retry: false });
  const names = value.split('/').filter(Boolean);
  const inside = (folder.data ?? []).filter((o) => o.subtree !== '');
  return (
    <div className="tree" role="group" aria-label={t('Folders of the device')}>
      <Breadcrumbs separator="/" separatorMargin={4} className="crumbs" p={6}>
        <Anchor component="button" type="button" size="sm" onClick={() => set('/')}>
          {t('Device')}
        </Anchor>
        {names.map((name, depth) => {
          const path = `/${names.slice(0, depth + 1).join('/')}`;
          return (
            <Anchor component="button" type="button" size="sm" key={path} onClick={() => set(path)}>
              {name}
            </Anchor>
          );
        })}
      </Breadcrumbs>
      {folder.isLoading && <Loader size="xs" m={6} role="status" aria-label={t('Loading')} />}
      <Failure error={folder.error} />
      <ul>
        {inside.map((o) => (
          <li key={o.subtree}>
            <button type="button" className="node" onClick={() => set(o.subtree)}>
              <Folder size={14} /> {o.name}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
