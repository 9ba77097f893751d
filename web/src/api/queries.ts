// What the pages ask for. End users get the twin of each administrator's call.
import { queryOptions, useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useMemo } from 'react';
import { t } from '../i18n';
import { ApiError, call } from './client';
import { session } from './session';
import type {
  Admin,
  AdminAccount,
  Branding,
  Bucket,
  FreeSpace,
  GroupPolicy,
  Job,
  JobEntry,
  LiveConnection,
  LobbyDevice,
  NewsEntry,
  Organization,
  Profile,
  ProfileAndHash,
  RestoreOptions,
  SearchClause,
  ServerConfig,
  SharedQuota,
  Snapshot,
  StorageTemplate,
  StoredObject,
  UserGroup,
  Version,
} from './types';

export const isAdmin = () => session()?.kind === 'admin';
export const base = () => (isAdmin() ? '/api/v1/admin' : '/api/v1/user/web');

export const isRunning = (job: Pick<Job, 'Status'>) => job.Status >= 6000 && job.Status < 7000;

export const useProfiles = (enabled = true) =>
  useQuery({
    enabled,
    queryKey: ['profiles'],
    queryFn: () => call<Record<string, Profile>>('/api/v1/admin/list-users-full'),
  });

/** How many accounts there are of each group, policy or tenant. */
export function useAccountsBy(part: 'GroupID' | 'PolicyID' | 'OrganizationID') {
  const { data } = useProfiles();
  return useMemo(() => {
    const out = new Map<string, number>();
    for (const p of Object.values(data ?? {})) {
      const id = p[part] ?? '';
      out.set(id, (out.get(id) ?? 0) + 1);
    }
    return out;
  }, [data, part]);
}

export const useProfile = (username: string, enabled = true) =>
  useQuery({
    enabled,
    queryKey: ['profile', username],
    queryFn: () =>
      call<ProfileAndHash>(`${base()}/get-user-profile-and-hash`, isAdmin() ? { TargetUser: username } : {}),
  });

export const useConnections = () =>
  useQuery({
    queryKey: ['connections'],
    queryFn: () => call<Record<string, LiveConnection>>(`${base()}/dispatcher/list-active`),
    refetchInterval: 10_000,
  });

export const useJobs = (username?: string) =>
  useQuery({
    queryKey: ['jobs', username ?? ''],
    queryFn: () => {
      if (!isAdmin()) return call<Job[]>('/api/v1/user/web/get-jobs');
      if (username) return call<Job[]>('/api/v1/admin/get-jobs-for-user', { TargetUser: username });
      return call<Job[]>('/api/v1/admin/get-jobs-recent');
    },
    refetchInterval: (query) => (query.state.data?.some(isRunning) ? 2000 : 15_000),
  });

export const useJob = (id: string) =>
  useQuery({
    queryKey: ['job', id],
    queryFn: () => call<Job>(`${base()}/get-job-properties`, { JobID: id }),
    refetchInterval: (query) => (query.state.data && isRunning(query.state.data) ? 1000 : false),
  });

export const useJobLog = (id: string, running: boolean) =>
  useQuery({
    queryKey: ['job-log', id, running],
    queryFn: () => call<JobEntry[]>(`${base()}/get-job-log-entries`, { JobID: id }),
    refetchInterval: running ? 1500 : false,
  });

export const useSnapshots = (target: string | undefined, vault: string) =>
  useQuery({
    queryKey: ['snapshots', vault, target],
    enabled: target !== undefined,
    queryFn: async () => {
      const fields = { TargetID: target, Destination: vault };
      const answer = await call<{ Snapshots: Snapshot[] }>(
        `${base()}/dispatcher/request-vault-snapshots`,
        fields,
      );
      return answer.Snapshots.sort((a, b) => b.CreateTime - a.CreateTime);
    },
  });

export type Place = { target: string; vault: string; snapshot: string };

export const folderQuery = ({ target, vault, snapshot }: Place, tree: string) =>
  queryOptions({
    queryKey: ['objects', vault, snapshot, tree],
    // A snapshot never changes.
    staleTime: Number.POSITIVE_INFINITY,
    queryFn: async () => {
      const fields = {
        TargetID: target,
        Destination: vault,
        SnapshotID: snapshot,
        TreeID: tree === '' ? undefined : tree,
      };
      const path = `${base()}/dispatcher/request-stored-objects`;
      const answer = await call<{ StoredObjects: StoredObject[] }>(path, fields);
      return answer.StoredObjects;
    },
  });

/** A folder of a snapshot by its path, found from the root down. */
export function useFolder(place: Place | null, path: string) {
  const client = useQueryClient();
  return useQuery({
    queryKey: ['folder', place?.vault, place?.snapshot, path],
    enabled: place !== null,
    staleTime: Number.POSITIVE_INFINITY,
    queryFn: async () => {
      if (place === null) return [];
      let objects = await client.ensureQueryData(folderQuery(place, ''));
      for (const name of path.split('/').filter(Boolean)) {
        const folder = objects.find((o) => o.name === name && o.subtree);
        if (!folder) throw new ApiError(404, t('The snapshot has no folder {path}', { path }));
        objects = await client.ensureQueryData(folderQuery(place, folder.subtree));
      }
      return objects;
    },
  });
}

export const useBuckets = () =>
  useQuery({
    queryKey: ['buckets'],
    queryFn: () => call<Record<string, Bucket>>('/api/v1/admin/storage/list-buckets'),
  });

/** What a change was made on, while it is being saved. */
const bases = new WeakMap<(profile: Profile) => void, ProfileAndHash>();

/** Changes an account's profile. `change` is done anew on the newest profile if somebody else saved meanwhile. */
export function useEditProfile(username: string) {
  const client = useQueryClient();
  const key = ['profile', username];
  const fetch = () =>
    call<ProfileAndHash>(`${base()}/get-user-profile-and-hash`, isAdmin() ? { TargetUser: username } : {});
  const save = (at: ProfileAndHash, change: (profile: Profile) => void) => {
    const profile = structuredClone(at.Profile);
    change(profile);
    return isAdmin()
      ? call<ProfileAndHash>('/api/v1/admin/set-user-profile-hash', {
          TargetUser: username,
          ProfileData: profile,
          RequireHash: at.ProfileHash,
        })
      : call<ProfileAndHash>('/api/v1/user/web/set-profile-hash', {
          ProfileData: profile,
          ProfileHash: at.ProfileHash,
        });
  };
  return useMutation({
    mutationFn: async (change: (profile: Profile) => void) => {
      const known = bases.get(change) ?? client.getQueryData<ProfileAndHash>(key) ?? (await fetch());
      try {
        return await save(known, change);
      } catch (error) {
        const newer = await fetch();
        if (newer.ProfileHash === known.ProfileHash) throw error;
        return save(newer, change);
      }
    },
    // Shown at once, and taken back if the server refuses.
    onMutate: (change) => {
      const known = client.getQueryData<ProfileAndHash>(key);
      if (!known) return;
      bases.set(change, known);
      const hoped = structuredClone(known);
      change(hoped.Profile);
      client.setQueryData<ProfileAndHash>(key, hoped);
    },
    onError: (_, change) => {
      const known = bases.get(change);
      if (known) client.setQueryData<ProfileAndHash>(key, known);
      client.invalidateQueries({ queryKey: key });
    },
    onSuccess: (saved) => {
      client.setQueryData<ProfileAndHash>(key, saved);
      client.invalidateQueries({ queryKey: ['profiles'] });
    },
  });
}

/** Something that is asked once and told anew by the event stream or after a change. */
const admin = <T>(name: string, path: string, fields = {}) =>
  queryOptions({ queryKey: [name], queryFn: () => call<T>(`/api/v1/admin/${path}`, fields) });

export const policiesQuery = () => admin<Record<string, GroupPolicy>>('policies', 'policies/list-full');
export const groupsQuery = () => admin<Record<string, UserGroup>>('groups', 'user-groups/list-full');
export const tenantsQuery = () => admin<Record<string, Organization>>('tenants', 'organization/list');
export const adminsQuery = () => admin<Admin[]>('admins', 'admin-user/list');
export const lobbyQuery = () => ({
  ...admin<Record<string, LobbyDevice>>('lobby', 'installation/list-active'),
  refetchInterval: 5000,
});
export const versionQuery = () => admin<Version>('version', 'meta/version');
export const configQuery = () => admin<ServerConfig>('config', 'meta/server-config/get');
export const templatesQuery = () =>
  queryOptions({
    queryKey: ['templates'],
    queryFn: async () => {
      const answer = await call<{ RemoteStorage?: StorageTemplate[] } | StorageTemplate[]>(
        '/api/v1/admin/meta/remote-storage-vault/get',
      );
      return Array.isArray(answer) ? answer : (answer.RemoteStorage ?? []);
    },
  });
export const freeSpaceQuery = () => admin<FreeSpace>('free-space', 'storage/free-space');
export const accountQuery = () => admin<AdminAccount>('account', 'account/properties');
export const quotasQuery = () =>
  queryOptions({
    queryKey: ['quotas'],
    queryFn: async () =>
      (await call<{ Entries: Record<string, SharedQuota> }>('/api/v1/admin/squota/list-all')).Entries,
  });
export const newsQuery = () =>
  queryOptions({
    queryKey: ['news'],
    queryFn: () => call<Record<string, NewsEntry>>(`${base()}/news/get-all`),
  });
export const providersQuery = () =>
  queryOptions({
    queryKey: ['providers'],
    queryFn: () => call<Record<string, string>>(`${base()}/request-storage-vault-providers`),
  });

/** Whether somebody administers the whole server, and not one tenant. */
export const useTopLevel = () => {
  const account = useQuery({ ...accountQuery(), enabled: isAdmin() });
  return account.data ? !account.data.OrganizationID : undefined;
};

export const brandingQuery = () =>
  queryOptions({
    queryKey: ['branding'],
    staleTime: 60_000,
    queryFn: async (): Promise<Branding> => (await fetch('/gen/branding.props')).json(),
  });

/** Jobs that a search finds, newest first is not promised. */
export const searchJobs = (query: SearchClause) =>
  call<Job[]>(`${base()}/get-jobs-for-custom-search`, { Query: query });

export const deviceFolder = (target: string, path: string) =>
  queryOptions({
    queryKey: ['device-folder', target, path],
    staleTime: 30_000,
    queryFn: async () => {
      const call_ = isAdmin()
        ? '/api/v1/admin/dispatcher/request-filesystem-objects'
        : '/api/v1/user/web/request-filesystem-objects';
      const answer = await call<{ StoredObjects: StoredObject[] }>(call_, { TargetID: target, Path: path });
      return answer.StoredObjects;
    },
  });

/**
 * Starts a job on a device. An end user's call answers no job id (reference, section 11), so the job is found among
 * those that were not there before.
 */
async function start(path: string, fields: Record<string, string | object>): Promise<{ JobID?: string }> {
  const list = () => call<Job[]>('/api/v1/user/web/get-jobs');
  const before = isAdmin() ? null : new Set((await list()).map((j) => j.GUID));
  const answer = await call<{ JobID?: string }>(`${base()}${path}`, fields);
  if (answer.JobID || !before) return answer;
  return { JobID: (await list()).find((j) => !before.has(j.GUID))?.GUID };
}

export const runBackup = (fields: { TargetID: string; Source: string; Destination: string }) =>
  start('/dispatcher/run-backup-custom', fields);

export const runRule = (fields: { TargetID: string; BackupRule: string }) =>
  start('/dispatcher/run-backup', fields);

export const runRestore = (fields: {
  TargetID: string;
  Source: string;
  Destination: string;
  Snapshot: string;
  Paths: string[];
  Options: RestoreOptions;
}) => start('/dispatcher/run-restore-custom', fields);

export const cancelJob = (job: Job) =>
  call(`${base()}/job/cancel`, { TargetUser: isAdmin() ? job.Username : undefined, JobID: job.GUID });

export const abandonJob = (job: Job) =>
  call('/api/v1/admin/job/abandon', { TargetUser: job.Username, JobID: job.GUID });

/** How long the server may take to come back, in milliseconds. */
const RESTART = 30_000;

/** Saves the whole configuration. The server starts anew with it; this ends when it is back. */
export async function saveConfig(config: ServerConfig) {
  const startOf = async () => (await call<Version>('/api/v1/admin/meta/version')).ServerStartHash;
  const before = await startOf();
  await call('/api/v1/admin/meta/server-config/set', { Config: config });
  const limit = Date.now() + RESTART;
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 250));
    const now = await startOf().catch(() => before);
    if (now !== before) return;
    if (Date.now() > limit) throw new ApiError(0, t('The server has saved, but is not back yet'));
  }
}
