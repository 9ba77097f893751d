// Who is signed in. Kept for this tab only.

export type Session = { kind: 'admin' | 'user'; username: string; key: string };

const STORAGE = 'encke-session';
const listeners = new Set<() => void>();
let current: Session | null = read();

function read(): Session | null {
  try {
    const text = sessionStorage.getItem(STORAGE);
    return text ? (JSON.parse(text) as Session) : null;
  } catch {
    return null;
  }
}

export function session(): Session | null {
  return current;
}

export function setSession(next: Session | null) {
  current = next;
  try {
    if (next) sessionStorage.setItem(STORAGE, JSON.stringify(next));
    else sessionStorage.removeItem(STORAGE);
  } catch {
    // In a frame of another site the browser may refuse; the session then lives as long as the page.
  }
  for (const listener of listeners) listener();
}

export function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
