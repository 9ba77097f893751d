import { Alert, Button, Group, Stack, Text, Textarea, TextInput } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { call } from '../api/client';
import { isAdmin, newsQuery } from '../api/queries';
import { DangerButton } from '../components/Danger';
import { Empty, Failure, Loaded, Page, Section, Time } from '../components/parts';
import { t } from '../i18n';
import { NewsText } from './NewsText';

/** A plain e-mail to everybody. */
function Bulletin() {
  const [subject, setSubject] = useState('');
  const [text, setText] = useState('');
  const send = useMutation({
    mutationFn: () => call('/api/v1/admin/bulletin/submit', { Subject: subject, Content: text }),
    onSuccess: () => {
      setSubject('');
      setText('');
    },
  });
  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    send.mutate();
  };
  return (
    <Section title={t('Bulletin')} help={t('A plain e-mail to all users who have an address.')}>
      <form onSubmit={onSubmit}>
        <Stack gap="xs" maw={760}>
          <Failure error={send.error} />
          {send.isSuccess && (
            <Alert color="teal" variant="light" role="status">
              {t('Handed over for delivery.')}
            </Alert>
          )}
          <TextInput
            label={t('Subject')}
            required
            value={subject}
            onChange={(e) => setSubject(e.currentTarget.value)}
          />
          <Textarea
            label={t('Text of the e-mail')}
            autosize
            minRows={3}
            required
            value={text}
            onChange={(e) => setText(e.currentTarget.value)}
          />
          <Group justify="flex-end">
            <Button type="submit" variant="default" loading={send.isPending}>
              {t('Send to all users')}
            </Button>
          </Group>
        </Stack>
      </form>
    </Section>
  );
}

export function News() {
  const news = useQuery(newsQuery());
  const client = useQueryClient();
  const [text, setText] = useState('');
  const refresh = () => client.invalidateQueries({ queryKey: ['news'] });
  const submit = useMutation({
    mutationFn: () => call('/api/v1/admin/news/submit', { NewsContent: text }),
    onSuccess: async () => {
      setText('');
      await refresh();
    },
  });
  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    submit.mutate();
  };
  const admin = isAdmin();
  return (
    <Page title={t('News')}>
      {admin && (
        <form onSubmit={onSubmit}>
          <Stack gap="xs" maw={760}>
            <Failure error={submit.error} />
            <Textarea
              label={t('A message to all users')}
              description={t('Shown in the apps and on their home page; addresses become links')}
              autosize
              minRows={3}
              required
              value={text}
              onChange={(e) => setText(e.currentTarget.value)}
            />
            <Group justify="flex-end">
              <Button type="submit" loading={submit.isPending}>
                {t('Publish')}
              </Button>
            </Group>
          </Stack>
        </form>
      )}
      <Loaded query={news}>
        {(data) => {
          const list = Object.entries(data).sort(([, a], [, b]) => b.DateTime - a.DateTime);
          if (list.length === 0) return <Empty>{t('No news.')}</Empty>;
          return (
            <Stack gap="xs" maw={760}>
              {list.map(([id, entry]) => (
                <div className="card" key={id}>
                  <NewsText text={entry.TextContent} />
                  <Group justify="space-between" mt="xs">
                    <Text size="xs" c="dimmed">
                      <Time unix={entry.DateTime} />
                    </Text>
                    {admin && (
                      <DangerButton
                        label={t('Take back')}
                        dialog="take-back"
                        which={id}
                        title={t('Take back')}
                        text={t('Nobody sees the message any more.')}
                        run={async () => {
                          await call('/api/v1/admin/news/remove', { NewsItem: id });
                          await refresh();
                        }}
                      />
                    )}
                  </Group>
                </div>
              ))}
            </Stack>
          );
        }}
      </Loaded>
      {admin && <Bulletin />}
    </Page>
  );
}
