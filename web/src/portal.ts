// Single sign-on: a portal that opened this page, or frames it, hands over a session by message. The key is checked
// with the server before anything is shown; no reload. The server may name the portals that it trusts.
import { rawCall, sessionLives } from './api/client';
import { type Session, setSession } from './api/session';
import { router } from './routes';

type Handover = { msg?: unknown; username?: unknown; sessionkey?: unknown };

export function handoverOf(data: unknown): Session | null {
  if (typeof data !== 'object' || data === null) return null;
  const { msg, username, sessionkey } = data as Handover;
  if (typeof username !== 'string' || typeof sessionkey !== 'string' || sessionkey === '') return null;
  if (msg === 'session_login') return { kind: 'admin', username, key: sessionkey };
  if (msg === 'user_session_login') return { kind: 'user', username, key: sessionkey };
  return null;
}

/** Whether the server lets this origin sign people in; nobody, if it can not be asked. */
async function isTrusted(origin: string): Promise<boolean> {
  try {
    const { Origins } = await rawCall<{ Origins: string[] }>('/api/encke/v1/console/portals', {});
    return Origins.length === 0 || Origins.includes(origin);
  } catch {
    return false;
  }
}

export function listenForPortal() {
  const portals: unknown[] = [window.opener, window.parent].filter((w) => w && w !== window);
  if (portals.length === 0) return;
  window.addEventListener('message', async (event) => {
    if (!portals.includes(event.source)) return;
    const candidate = handoverOf(event.data);
    if (!candidate || !(await isTrusted(event.origin))) return;
    if (await sessionLives(candidate, { sure: true })) {
      setSession(candidate);
      await router.navigate({ to: '/' });
    } else {
      setSession(null);
      await router.navigate({ to: '/sign-in', search: { refused: true } });
    }
  });
  // The first message any portal hears from us, once we listen.
  for (const portal of portals) (portal as Window).postMessage({ msg: 'app_loaded' }, '*');
}
