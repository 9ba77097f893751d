// Calls of the public API: form-encoded, errors as envelopes on transport status 200.
import { t } from '../i18n';
import { session, setSession } from './session';

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    /** What a security key has to sign, where one would do as the second factor. */
    readonly challenge: string | null = null,
    /** Whether a one-time code would do. */
    readonly takesCode = false,
  ) {
    super(message);
  }
}

/** What the server answers to whoever has to choose a new password first. */
const MUST_CHANGE = 'You have to change your password first';

type Fields = Record<string, string | number | boolean | object | undefined>;

function form(fields: Fields): URLSearchParams {
  const out = new URLSearchParams();
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    out.set(name, typeof value === 'object' ? JSON.stringify(value) : String(value));
  }
  return out;
}

/** The error an answer stands for, if it is one: an envelope has both fields, a job only a Status. */
export function errorOf(body: unknown): ApiError | null {
  if (typeof body !== 'object' || body === null) return null;
  const { Status, Message } = body as { Status?: unknown; Message?: unknown };
  if (typeof Status === 'number' && Status >= 400 && typeof Message === 'string' && Message !== '') {
    return new ApiError(Status, Message);
  }
  return null;
}

/** Calls without a session, with whatever credentials the fields hold. */
export async function rawCall<T>(path: string, fields: Fields): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, { method: 'POST', body: form(fields) });
  } catch {
    throw new ApiError(0, t('The server can not be reached'));
  }
  const text = await response.text();
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw new ApiError(
      response.status,
      t("The server's answer can not be read (status {status})", { status: response.status }),
    );
  }
  const error = errorOf(body);
  if (error && response.status === 449) {
    const { headers } = response;
    const challenge = headers.get('X-Comet-WebAuthn-Challenge');
    throw new ApiError(449, error.message, challenge, headers.get('X-Comet-TOTP-Requested') === '1');
  }
  if (error) throw error;
  return body as T;
}

/** Calls as whoever is signed in. A session that has ended leads back to the sign-in page. */
export async function call<T>(path: string, fields: Fields = {}): Promise<T> {
  const who = session();
  if (!who) throw new ApiError(403, t('Not signed in'));
  try {
    return await rawCall<T>(path, {
      ...fields,
      Username: who.username,
      AuthType: 'SessionKey',
      SessionKey: who.key,
    });
  } catch (error) {
    if (error instanceof ApiError && error.status === 403 && error.message === 'Unauthorised') {
      if (!(await sessionLives())) setSession(null);
    }
    if (error instanceof ApiError && error.message === MUST_CHANGE) {
      window.dispatchEvent(new Event('encke-must-change'));
    }
    throw error;
  }
}

/** Calls what answers a file, and tells how many bytes have come. */
export async function callFile(
  path: string,
  fields: Fields,
  signal: AbortSignal,
  progress: (bytes: number) => void,
): Promise<Blob> {
  const who = session();
  if (!who) throw new ApiError(403, t('Not signed in'));
  const all = { ...fields, Username: who.username, AuthType: 'SessionKey', SessionKey: who.key };
  const response = await fetch(path, { method: 'POST', body: form(all), signal });
  if (response.headers.get('Content-Type')?.startsWith('application/json')) {
    throw errorOf(await response.json()) ?? new ApiError(500, t('The file could not be read'));
  }
  const reader = response.body?.getReader();
  const parts: Blob[] = [];
  let come = 0;
  for (;;) {
    const next = await reader?.read();
    if (!next || next.done) break;
    // A blob may lie on the disk, an array may not.
    parts.push(new Blob([next.value]));
    come += next.value.length;
    progress(come);
  }
  return new Blob(parts);
}

/** Calls what answers text and not JSON, such as logs. */
export async function callText(path: string, fields: Fields = {}): Promise<string> {
  const who = session();
  if (!who) throw new ApiError(403, t('Not signed in'));
  const all = { ...fields, Username: who.username, AuthType: 'SessionKey', SessionKey: who.key };
  const response = await fetch(path, { method: 'POST', body: form(all) });
  const text = await response.text();
  if (text.startsWith('{')) {
    const first = text.split('\n', 1)[0] ?? '';
    try {
      const error = errorOf(JSON.parse(text.length < 2000 ? text : first));
      if (error) throw error;
    } catch (error) {
      if (error instanceof ApiError) throw error;
    }
  }
  return text;
}

/** Checks a session with the server. Unless it must be `sure`, no answer says nothing against the session. */
export async function sessionLives(candidate = session(), { sure = false } = {}): Promise<boolean> {
  if (!candidate) return false;
  const path =
    candidate.kind === 'admin'
      ? '/api/v1/admin/account/properties'
      : '/api/v1/user/web/get-user-profile-and-hash';
  try {
    const fields = { Username: candidate.username, AuthType: 'SessionKey', SessionKey: candidate.key };
    await rawCall(path, fields);
    return true;
  } catch (error) {
    return !sure && error instanceof ApiError && (error.status === 0 || error.status >= 500);
  }
}
