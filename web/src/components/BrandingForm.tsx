// Name, colours and logo of the pages of a host.
import { Button, ColorInput, FileButton, Group, SimpleGrid, Stack, Text, TextInput } from '@mantine/core';
import { useMutation } from '@tanstack/react-query';
import { errorOf } from '../api/client';
import { session } from '../api/session';
import type { BrandingOptions } from '../api/types';
import { t } from '../i18n';
import { inkOn } from '../lib/brand';
import { Fields } from './Fields';
import { Failure } from './parts';

async function upload(file: File): Promise<string> {
  const who = session();
  const form = new FormData();
  form.set('Username', who?.username ?? '');
  form.set('AuthType', 'SessionKey');
  form.set('SessionKey', who?.key ?? '');
  form.set('upload', file);
  const response = await fetch('/api/v1/admin/meta/resource/new', { method: 'POST', body: form });
  const body = await response.json();
  const error = errorOf(body);
  if (error) throw error;
  return `resource://${body.ResourceHash}`;
}

export function BrandingForm({
  doc,
  change,
}: {
  doc: BrandingOptions;
  change: (next: BrandingOptions) => void;
}) {
  const logo = useMutation({
    mutationFn: upload,
    onSuccess: (LogoImage) => change({ ...doc, LogoImage }),
  });
  const colour = (key: 'TopColor' | 'AccentColor', label: string) => (
    <ColorInput
      label={label}
      format="hex"
      withEyeDropper={false}
      value={doc[key] ?? ''}
      onChange={(next) => change({ ...doc, [key]: next })}
    />
  );
  const top = /^#[0-9a-f]{6}$/i.test(doc.TopColor ?? '') ? doc.TopColor : '#191F33';
  return (
    <Stack gap="sm">
      <Failure error={logo.error} />
      <SimpleGrid cols={{ base: 1, sm: 3 }}>
        <TextInput
          label={t('Name of the service')}
          value={doc.BrandName ?? ''}
          onChange={(e) => change({ ...doc, BrandName: e.currentTarget.value })}
        />
        {colour('TopColor', t('Colour of the top bar'))}
        {colour('AccentColor', t('Second colour'))}
      </SimpleGrid>
      <Group gap="sm">
        <FileButton accept="image/png,image/jpeg,image/gif,image/webp" onChange={(f) => f && logo.mutate(f)}>
          {(props) => (
            <Button {...props} variant="default" loading={logo.isPending}>
              {t('Choose a logo')}
            </Button>
          )}
        </FileButton>
        {doc.LogoImage && (
          <Button variant="subtle" color="red" onClick={() => change({ ...doc, LogoImage: '' })}>
            {t('Take the logo away')}
          </Button>
        )}
        <Text size="sm" c="dimmed">
          {doc.LogoImage ? t('There is a logo.') : t('No logo: the comet is shown.')}
        </Text>
      </Group>
      <div className="brandSample" style={{ background: top, color: inkOn(top) }}>
        {doc.BrandName || 'Encke'}
      </div>
      <Fields
        doc={doc}
        change={change}
        fields={[
          { path: 'ProductName', label: t('Name of the app') },
          { path: 'CompanyName', label: t('Company') },
          { path: 'HelpURL', label: t('Address of the help') },
          { path: 'DefaultLoginServerURL', label: t('Address that apps sign in to') },
          { path: 'AccountRegisterURL', label: t('Address to register at') },
          { path: 'CloudStorageName', label: t('Name of the cloud storage') },
          { path: 'HideNewsArea', label: t('Show news to users'), kind: 'switch', inverted: true },
        ]}
      />
    </Stack>
  );
}
