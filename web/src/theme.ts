import { type CSSVariablesResolver, createTheme, type MantineColorsTuple } from '@mantine/core';
import { t } from './i18n';

// Deep-space blue: calm as a surface, clear as an accent in light and dark.
const encke: MantineColorsTuple = [
  '#eef3ff',
  '#dbe4f8',
  '#b4c6ec',
  '#8ba6e0',
  '#698ad6',
  '#5479d0',
  '#4870ce',
  '#3a5fb6',
  '#3154a3',
  '#254890',
];

// Night: a little blue, so that greys do not look dirty beside the accent.
const dark: MantineColorsTuple = [
  '#d6dae1',
  '#b6bcc7',
  '#8f97a5',
  '#68707e',
  '#414854',
  '#313740',
  '#272c34',
  '#1a1d23',
  '#15181d',
  '#101216',
];

const SYSTEM = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif';

/** Fields are as high as the buttons beside them. */
const FIELD = { size: 'xs', withAsterisk: false };

/** Made after the language is loaded, since it holds words. */
export const theme = () =>
  createTheme({
    respectReducedMotion: true,
    primaryColor: 'encke',
    colors: { encke, dark },
    primaryShade: { light: 7, dark: 6 },
    defaultRadius: 'sm',
    fontFamily: SYSTEM,
    fontFamilyMonospace: 'ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace',
    headings: {
      fontFamily: SYSTEM,
      fontWeight: '600',
      sizes: { h1: { fontSize: '1.3rem' }, h2: { fontSize: '1rem' } },
    },
    // By name and without their code, which each page brings along as it needs it.
    components: {
      ActionIcon: { defaultProps: { variant: 'subtle', color: 'gray' } },
      Button: { defaultProps: { size: 'xs' } },
      Modal: {
        defaultProps: {
          centered: true,
          overlayProps: { backgroundOpacity: 0.4 },
          closeButtonProps: { 'aria-label': t('Close') },
        },
      },
      Autocomplete: { defaultProps: FIELD },
      ColorInput: { defaultProps: FIELD },
      MultiSelect: { defaultProps: FIELD },
      NumberInput: { defaultProps: FIELD },
      PasswordInput: { defaultProps: FIELD },
      SegmentedControl: { defaultProps: { size: 'xs' } },
      Select: { defaultProps: { ...FIELD, allowDeselect: false } },
      Switch: { defaultProps: { size: 'sm' } },
      TagsInput: { defaultProps: FIELD },
      Text: { defaultProps: { size: 'sm' } },
      Textarea: { defaultProps: FIELD },
      TextInput: { defaultProps: FIELD },
    },
  });

/** Colours that people have to tell apart by themselves: what destroys stays red in the dark, too. */
const SIGNALS = {
  '--mantine-color-red-filled': '#c92a2a',
  '--mantine-color-red-filled-hover': '#b02525',
};

/** Quiet text that is still easy to read (WCAG 2.2, 1.4.3). */
export const colours: CSSVariablesResolver = () => ({
  variables: {},
  light: {
    '--mantine-color-dimmed': '#586070',
    '--mantine-color-placeholder': '#697180',
    '--mantine-color-error': '#b3261e',
    '--mantine-color-red-light-color': '#b3261e',
    // The library's own shout.
    '--mantine-color-red-light': '#fdeeec',
    '--mantine-color-orange-light': '#fff5e6',
    '--mantine-color-blue-light': '#eaf3fd',
    '--mantine-color-teal-light': '#e6f6ee',
    '--mantine-color-encke-light': '#e9effb',
    ...SIGNALS,
  },
  dark: {
    '--mantine-color-dimmed': '#a9b0bb',
    '--mantine-color-placeholder': '#9299a5',
    '--mantine-color-error': '#ff8a80',
    '--mantine-color-anchor': '#8ba6e0',
    // The library's own are nearly white there, on loud grounds.
    '--mantine-color-red-light': '#43201e',
    '--mantine-color-red-light-hover': '#522725',
    '--mantine-color-orange-light': '#3d2c16',
    '--mantine-color-orange-light-hover': '#4a361b',
    '--mantine-color-blue-light': '#18304a',
    '--mantine-color-teal-light': '#14362c',
    '--mantine-color-blue-light-color': '#a5d0ff',
    '--mantine-color-teal-light-color': '#7fe0bd',
    '--mantine-color-red-light-color': '#ff9a91',
    '--mantine-color-orange-light-color': '#ffc078',
    '--mantine-color-encke-light-color': '#b4c6ec',
    ...SIGNALS,
  },
});
