// The folders of a device, as the device itself shows them, to choose what is backed up and what is not.
import { ActionIcon, Checkbox, Group, Loader, Stack, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { deviceFolder } from '../api/queries';
import { t } from '../i18n';
import { bytes, count } from '../lib/format';
import { Down, File, Folder, Right } from './icons';
import { Failure } from './parts';

export type Choice = { include: string[]; exclude: string[] };

const separator = (path: string) => (/^[A-Za-z]:|^\\\\/.test(path) ? '\\' : '/');
const isWithin = (path: string, folder: string) => {
  const s = separator(folder);
  return path === folder || path.startsWith(folder.endsWith(s) ? folder : folder + s);
};

/** Whether a path is in by itself or by a folder above, and not out again by a nearer one. */
export function isIn({ include, exclude }: Choice, path: string): boolean {
  const longest = (list: string[]) =>
    list.filter((f) => isWithin(path, f)).reduce((best, f) => Math.max(best, f.length), -1);
  return longest(include) > longest(exclude);
}

const hasInside = ({ include, exclude }: Choice, path: string) =>
  [...include, ...exclude].some((p) => p !== path && isWithin(p, path));

/** The choice after a click on a path. What stood below it is forgotten. */
export function toggled(choice: Choice, path: string): Choice {
  const outside = (list: string[]) => list.filter((p) => !isWithin(p, path));
  const bare = { include: outside(choice.include), exclude: outside(choice.exclude) };
  if (isIn(choice, path)) {
    return isIn(bare, path) ? { ...bare, exclude: [...bare.exclude, path] } : bare;
  }
  return isIn(bare, path) ? bare : { ...bare, include: [...bare.include, path] };
}

const MOST = 500;

function Level({
  target,
  path,
  choice,
  set,
  depth,
}: {
  target: string;
  path: string;
  choice: Choice;
  set: (next: Choice) => void;
  depth: number;
}) {
  const folder = useQuery(deviceFolder(target, path));
  if (folder.error) return <Failure error={folder.error} />;
  if (!folder.data) return <Loader size="xs" m={6} role="status" aria-label={t('Loading')} />;
  const list = folder.data.slice(0, MOST);
  if (list.length === 0) {
    return (
      <Text size="sm" c="dimmed" pl={depth * 20 + 30}>
        {t('Empty')}
      </Text>
    );
  }
  return (
    <ul>
      {list.map((object) => {
        const full = object.subtree || `${path.endsWith('/') ? path : `${path}/`}${object.name}`;
        return (
          <Node
            key={full}
            target={target}
            path={full}
            name={object.name}
            size={object.type === 'file' ? object.size : undefined}
            isFolder={object.subtree !== ''}
            choice={choice}
            set={set}
            depth={depth}
          />
        );
      })}
      {folder.data.length > MOST && (
        <li>
          <Text size="xs" c="dimmed" pl={depth * 20 + 30}>
            {t('{n} more are not shown; name them below.', { n: count(folder.data.length - MOST) })}
          </Text>
        </li>
      )}
    </ul>
  );
}

function Node({
  target,
  path,
  name,
  size,
  isFolder,
  choice,
  set,
  depth,
}: {
  target: string;
  path: string;
  name: string;
  size: number | undefined;
  isFolder: boolean;
  choice: Choice;
  set: (next: Choice) => void;
  depth: number;
}) {
  const [opened, setOpened] = useState(false);
  const on = isIn(choice, path);
  return (
    <li>
      <Group gap={6} wrap="nowrap" pl={depth * 20} className="node">
        {isFolder ? (
          <ActionIcon
            size="sm"
            onClick={() => setOpened(!opened)}
            aria-expanded={opened}
            aria-label={t('Open {name}', { name })}
          >
            {opened ? <Down size={14} /> : <Right size={14} />}
          </ActionIcon>
        ) : (
          <span className="gap" />
        )}
        <Checkbox
          size="xs"
          checked={on}
          indeterminate={hasInside(choice, path)}
          onChange={() => set(toggled(choice, path))}
          aria-label={name}
        />
        {isFolder ? <Folder size={14} /> : <File size={14} />}
        <Text size="sm" truncate flex={1}>
          {name}
        </Text>
        {size !== undefined && (
          <Text size="xs" c="dimmed">
            {bytes(size)}
          </Text>
        )}
      </Group>
      {opened && <Level target={target} path={path} choice={choice} set={set} depth={depth + 1} />}
    </li>
  );
}

export function FolderTree({
  target,
  choice,
  set,
}: {
  target: string;
  choice: Choice;
  set: (next: Choice) => void;
}) {
  return (
    <Stack gap={4}>
      <div className="tree" role="group" aria-label={t('Folders of the device')}>
        <Level target={target} path="/" choice={choice} set={set} depth={0} />
      </div>
    </Stack>
  );
}
