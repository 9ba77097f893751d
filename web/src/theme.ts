import {
  ActionIcon,
  Button,
  createTheme,
  type MantineColorsTuple,
  Modal,
  PasswordInput,
  SegmentedControl,
  Select,
  TextInput,
} from '@mantine/core';

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

const SYSTEM = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif';

export const theme = createTheme({
  primaryColor: 'encke',
  colors: { encke },
  primaryShade: { light: 7, dark: 6 },
  defaultRadius: 'sm',
  fontFamily: SYSTEM,
  fontFamilyMonospace: 'ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace',
  headings: {
    fontFamily: SYSTEM,
    fontWeight: '600',
    sizes: { h1: { fontSize: '1.3rem' }, h2: { fontSize: '1rem' } },
  },
  components: {
    ActionIcon: ActionIcon.extend({ defaultProps: { variant: 'subtle', color: 'gray' } }),
    Button: Button.extend({ defaultProps: { size: 'xs' } }),
    Modal: Modal.extend({ defaultProps: { centered: true, overlayProps: { backgroundOpacity: 0.4 } } }),
    PasswordInput: PasswordInput.extend({ defaultProps: { size: 'sm', withAsterisk: false } }),
    SegmentedControl: SegmentedControl.extend({ defaultProps: { size: 'xs' } }),
    Select: Select.extend({ defaultProps: { size: 'sm', allowDeselect: false } }),
    TextInput: TextInput.extend({ defaultProps: { size: 'sm', withAsterisk: false } }),
  },
});
