import { ActionIcon, Button, Group, Stack, Switch, Text, TextInput } from '@mantine/core';
import { type FormEvent, useState } from 'react';
import { isAdmin, useEditProfile } from '../../api/queries';
import type { EmailReport, Profile } from '../../api/types';
import { EmailReports, newReport, reportText } from '../../components/EmailReports';
import { SaveBar, useDraft } from '../../components/Fields';
import { Close } from '../../components/icons';
import { Empty } from '../../components/parts';
import { t } from '../../i18n';

type Part = Pick<Profile, 'Emails' | 'SendEmailReports' | 'OverrideEmailSettings'>;

const partOf = (p: Profile): Part => ({
  Emails: p.Emails ?? [],
  SendEmailReports: p.SendEmailReports,
  OverrideEmailSettings: p.OverrideEmailSettings ?? {},
});

/** Who gets e-mail about an account's backups. */
export function Emails({ profile }: { profile: Profile }) {
  const edit = useEditProfile(profile.Username);
  const stored = partOf(profile);
  const { draft, setDraft, changed, discard, settled } = useDraft(stored);
  const [address, setAddress] = useState('');
  const locked = !isAdmin() && profile.Policy?.PreventChangeEmailSettings;
  const own = draft.OverrideEmailSettings;
  const setOwn = (email: string, reports: EmailReport[] | null) => {
    const { [email]: _, ...rest } = own;
    setDraft({
      ...draft,
      OverrideEmailSettings: reports ? { ...rest, [email]: { Reports: reports } } : rest,
    });
  };
  const add = (event: FormEvent) => {
    event.preventDefault();
    const next = address.trim();
    if (next && !draft.Emails.includes(next)) setDraft({ ...draft, Emails: [...draft.Emails, next] });
    setAddress('');
  };
  const standard = profile.Policy?.DefaultEmailReports;
  return (
    <Stack gap="md" maw={900}>
      <Switch
        label={t('Send e-mail reports')}
        disabled={locked}
        checked={draft.SendEmailReports}
        onChange={(e) => setDraft({ ...draft, SendEmailReports: e.currentTarget.checked })}
      />
      {draft.SendEmailReports && (
        <>
          <form onSubmit={add}>
            <Group gap="xs" align="flex-end">
              <TextInput
                type="email"
                w={300}
                label={t('E-mail address')}
                disabled={locked}
                value={address}
                onChange={(e) => setAddress(e.currentTarget.value)}
              />
              <Button type="submit" variant="default" disabled={locked}>
                {t('Add address')}
              </Button>
            </Group>
          </form>
          {draft.Emails.length === 0 && (
            <Empty>{t('No address yet. Without one nobody hears of failed backups.')}</Empty>
          )}
          {draft.Emails.map((email) => (
            <div key={email} className="card">
              <Stack gap="xs">
                <Group justify="space-between">
                  <Text fw={600} size="sm">
                    {email}
                  </Text>
                  <ActionIcon
                    aria-label={t('Remove {email}', { email })}
                    disabled={locked}
                    onClick={() => {
                      const { [email]: _, ...rest } = own;
                      setDraft({
                        ...draft,
                        Emails: draft.Emails.filter((e) => e !== email),
                        OverrideEmailSettings: rest,
                      });
                    }}
                  >
                    <Close size={16} />
                  </ActionIcon>
                </Group>
                <Switch
                  size="xs"
                  label={t('Own reports for this address')}
                  description={
                    own[email]
                      ? undefined
                      : standard?.ShouldOverrideDefaultReports
                        ? t('By the policy: {reports}', {
                            reports: (standard.Reports ?? []).map(reportText).join('; ') || t('none'),
                          })
                        : t('As the server does it: a message for each backup that ends')
                  }
                  disabled={locked}
                  checked={own[email] !== undefined}
                  onChange={(e) => setOwn(email, e.currentTarget.checked ? [newReport()] : null)}
                />
                {own[email] && (
                  <EmailReports value={own[email].Reports ?? []} set={(next) => setOwn(email, next)} />
                )}
              </Stack>
            </div>
          ))}
        </>
      )}
      <SaveBar
        changed={changed}
        busy={edit.isPending}
        error={edit.error}
        discard={discard}
        save={() =>
          edit.mutate((p) => Object.assign(p, draft), {
            onSuccess: (answer) => settled(partOf(answer.Profile)),
          })
        }
      />
    </Stack>
  );
}
