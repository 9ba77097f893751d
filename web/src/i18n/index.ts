// Every text that people read goes through here. The English text is its own key; the other languages are message
// files, loaded before the first page is drawn. `messages.test.ts` checks that each of them has every text.

export const LANGUAGES = {
  en: 'English',
  de: 'Deutsch',
  es: 'Español',
  fr: 'Français',
  pt: 'Português',
} as const;
export type Language = keyof typeof LANGUAGES;

const STORAGE = 'encke-language';
const files = {
  de: () => import('./de.json'),
  es: () => import('./es.json'),
  fr: () => import('./fr.json'),
  pt: () => import('./pt.json'),
};

let messages: Record<string, string> = {};
let current: Language = 'en';
let rule = new Intl.PluralRules('en');

export const language = () => current;

type Values = Record<string, string | number>;

const filled = (text: string, values: Values) =>
  text.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    return value === undefined ? whole : typeof value === 'number' ? value.toLocaleString(current) : value;
  });

/** The text in the reader's language, with `{name}` replaced by values. */
export function t(text: string, values: Values = {}): string {
  return filled(messages[text] ?? text, values);
}

/** A text that depends on a number, which it may name as `{n}`. */
export function plural(n: number, one: string, other: string, values: Values = {}): string {
  const [first = one, second = other] = (messages[`${one}|${other}`] ?? `${one}|${other}`).split('|');
  return filled(rule.select(n) === 'one' ? first : second, { n, ...values });
}

function wanted(): Language {
  const known = (code: string | null | undefined) =>
    Object.keys(LANGUAGES).find((l) => l === code?.slice(0, 2).toLowerCase()) as Language | undefined;
  let kept: string | null = null;
  try {
    kept = localStorage.getItem(STORAGE);
  } catch {
    // In a frame of another site the browser may refuse.
  }
  return known(kept) ?? navigator.languages.map(known).find((l) => l !== undefined) ?? 'en';
}

/** Loads the reader's language. Without its file the pages stay English. */
export async function loadLanguage() {
  const next = wanted();
  if (next !== 'en') {
    try {
      messages = (await files[next]()).default;
      current = next;
    } catch {
      return;
    }
  }
  rule = new Intl.PluralRules(current);
  document.documentElement.lang = current;
}

/** Keeps another language and starts the console anew in it: what is shown stands in the address. */
export function chooseLanguage(next: Language) {
  localStorage.setItem(STORAGE, next);
  location.reload();
}
