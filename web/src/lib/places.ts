// Time zones and languages to choose from.

/** Time zones by name, with the one that is set already. */
export const timeZones = (set = '') =>
  [...new Set([...(set ? [set] : []), 'UTC', ...Intl.supportedValuesOf('timeZone')])].map((value) => ({
    value,
    label: value,
  }));

/** Languages that e-mails may be wanted in. */
export const languageCodes = () =>
  [
    'en_US',
    'de_DE',
    'es_ES',
    'fr_FR',
    'pt_BR',
    'pt_PT',
    'it_IT',
    'nl_NL',
    'da_DK',
    'hr_HR',
    'he_IL',
    'ru_RU',
    'th_TH',
    'zh_CN',
  ].map((value) => ({ value, label: value }));
