// The live event stream: tells the pages what to fetch anew. Administrators only.
import type { QueryClient } from '@tanstack/react-query';
import { session } from './session';

const LONGEST_PAUSE = 30_000;

let live = false;
const listeners = new Set<() => void>();
const setLive = (next: boolean) => {
  live = next;
  for (const listener of listeners) listener();
};

/** Whether the stream is connected, for `useSyncExternalStore`. */
export const isLive = () => live;
export const onLive = (listener: () => void) => {
  listeners.add(listener);
  return () => listeners.delete(listener);
};

/** Which of the pages' data an event makes stale. */
export function staleKeys(type: string): string[] {
  if (type.startsWith('SEVT_JOB_')) return ['jobs', 'job'];
  if (type.startsWith('SEVT_DEVICE_LOBBY_')) return ['lobby'];
  if (type.startsWith('SEVT_DEVICE_LIVE_')) return ['connections'];
  if (type.startsWith('SEVT_DEVICE_')) return ['connections', 'profiles', 'profile'];
  if (/^SEVT_ACCOUNT_(NEW|REMOVED|UPDATED)$/.test(type)) return ['profiles', 'profile'];
  if (type.startsWith('SEVT_BUCKET_')) return ['buckets'];
  if (type.startsWith('SEVT_POLICY_')) return ['policies', 'profiles', 'profile'];
  if (type.startsWith('SEVT_ACCOUNT_ADMIN_')) return ['admins', 'account'];
  if (type.startsWith('SEVT_USERGROUP_')) return ['groups', 'profiles'];
  if (type.startsWith('SEVT_SQUOTA_')) return ['quotas'];
  if (type.startsWith('SEVT_TENANT_')) return ['tenants'];
  if (type.startsWith('SEVT_SERVER_')) return ['config', 'version', 'templates'];
  return [];
}

/** Connects until the returned function is called. */
export function followEvents(client: QueryClient): () => void {
  let socket: WebSocket | null = null;
  let timer = 0;
  let pause = 1000;
  let ended = false;

  const connect = () => {
    const who = session();
    if (ended || who?.kind !== 'admin') return;
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    socket = new WebSocket(`${scheme}://${location.host}/api/v1/events/stream`);
    socket.onopen = () => {
      for (const frame of [who.username, 'SessionKey', '', who.key, '']) socket?.send(frame);
    };
    socket.onmessage = (message) => {
      const text = String(message.data);
      if (text === '200 OK') {
        pause = 1000;
        setLive(true);
        // What happened while nobody listened is fetched anew.
        client.invalidateQueries();
        return;
      }
      if (!text.startsWith('{')) return;
      const event = JSON.parse(text) as { TypeString?: string };
      for (const key of staleKeys(event.TypeString ?? '')) client.invalidateQueries({ queryKey: [key] });
    };
    socket.onclose = () => {
      setLive(false);
      if (ended) return;
      timer = window.setTimeout(connect, pause);
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    };
  };

  connect();
  return () => {
    ended = true;
    window.clearTimeout(timer);
    socket?.close();
  };
}
