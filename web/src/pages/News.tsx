import { Button, Group, Stack, Text, Textarea } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { call } from '../api/client';
import { isAdmin, newsQuery } from '../api/queries';
import { DangerButton } from '../components/Danger';
import { Empty, Failure, Loaded, Page, Time } from '../components/parts';
import { t } from '../i18n';
import { NewsText } from './NewsText';

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
    </Page>
  );
}
