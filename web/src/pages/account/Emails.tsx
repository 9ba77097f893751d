import { ActionIcon, Button, Group, Modal, Stack, Switch, Text, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { call } from '../../api/client';
import { isAdmin, useEditProfile } from '../../api/queries';
import type { EmailReport, MailPreview, Profile } from '../../api/types';
import { EmailReports, newReport, reportText } from '../../components/EmailReports';
import { SaveBar, useDraft } from '../../components/Fields';
import { Close } from '../../components/icons';
import { Empty, Fact, Loaded } from '../../components/parts';
import { t } from '../../i18n';
import { useDialogOf } from '../../lib/search';

type Part = Pick<Profile, 'Emails' | 'SendEmailReports' | 'OverrideEmailSettings'>;

const partOf = (p: Profile): Part => ({
  Emails: p.Emails ?? [],
  SendEmailReports: p.SendEmailReports,
  OverrideEmailSettings: p.OverrideEmailSettings ?? {},
});

/** A report as it would be sent now. */
function Preview({
  user,
  email,
  report,
  close,
}: {
  user: string;
  email: string;
  report: EmailReport;
  close: () => void;
}) {
  const mail = useQuery({
    queryKey: ['report-preview', user, email, report],
    queryFn: () =>
      call<MailPreview>('/api/v1/admin/preview-user-email-report', {
        TargetUser: user,
        EmailReportConfig: report,
        EmailAddress: email,
      }),
    retry: false,
    gcTime: 0,
  });
  return (
    <Modal opened onClose={close} size="xl" title={t('Preview')}>
      <Loaded query={mail}>
        {(m) => (
          <Stack gap="xs">
            <Fact label={t('Sender')}>{m.From || '–'}</Fact>
            <Fact label={t('To')}>{m.To.join(', ')}</Fact>
            <Fact label={t('Subject')}>{m.EmailSubject}</Fact>
            <pre className="mail" tabIndex={0} aria-label={t('Text of the e-mail')}>
              {m.EmailBodyPlaintext}
            </pre>
          </Stack>
        )}
      </Loaded>
    </Modal>
  );
}

/** Who gets e-mail about an account's backups. */
export function Emails({ profile }: { profile: Profile }) {
  const edit = useEditProfile(profile.Username);
  const stored = partOf(profile);
  const { draft, setDraft, changed, discard, settled } = useDraft(stored);
  const [address, setAddress] = useState('');
  const admin = isAdmin();
  // Of which address, and the how many-th report of it.
  const [shown, setShown] = useDialogOf('preview');
  const [, seen = '', at = ''] = /^(.*)\/(\d+)$/.exec(shown) ?? [];
  const locked = !admin && profile.Policy?.PreventChangeEmailSettings;
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
  const usual = standard?.ShouldOverrideDefaultReports ? standard.Reports : undefined;
  const previewed = own[seen] ? own[seen].Reports?.[Number(at)] : (usual?.[0] ?? newReport());
  return (
    <Stack gap="md" maw={900}>
      <Switch
        label={t('Send e-mail reports')}
        disabled={locked}
        checked={draft.SendEmailReports}
        onChange={(e) => setDraft({ ...draft, SendEmailReports: e.currentTarget.checked })}
      />
      {!draft.SendEmailReports && (
        <Text size="sm" c="dimmed">
          {t('Nobody is told by e-mail when backups of this account fail.')}
        </Text>
      )}
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
                {own[email] ? (
                  <EmailReports
                    value={own[email].Reports ?? []}
                    set={(next) => setOwn(email, next)}
                    preview={admin ? (index) => setShown(`${email}/${index}`) : undefined}
                  />
                ) : (
                  admin && (
                    <Button
                      variant="default"
                      size="compact-sm"
                      w="fit-content"
                      onClick={() => setShown(`${email}/0`)}
                    >
                      {t('Preview')}
                    </Button>
                  )
                )}
              </Stack>
            </div>
          ))}
        </>
      )}
      {previewed && draft.Emails.includes(seen) && (
        <Preview email={seen} report={previewed} user={profile.Username} close={() => setShown('')} />
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
