import '@mantine/core/styles.css';
import { Button, Center, Paper, Stack, Text, Title } from '@mantine/core';
import { useQueryClient } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import { setSession } from '../api/session';
import { PasswordForm } from '../components/PasswordForm';
import { t } from '../i18n';

/** Where somebody lands who has to choose a new password before anything else. */
export function MustChange() {
  const navigate = useNavigate();
  const client = useQueryClient();
  return (
    <Center mih="100dvh" p="md" component="main">
      <Paper withBorder p="xl" w={420} maw="100%" shadow="xs">
        <Stack gap="sm">
          <Title order={1}>{t('Choose a new password')}</Title>
          <Text size="sm" c="dimmed">
            {t('Your password was given to you by somebody else. Choose one that only you know.')}
          </Text>
          <PasswordForm
            done={() => {
              client.clear();
              navigate({ to: '/' });
            }}
          />
          <Button
            variant="subtle"
            color="gray"
            size="compact-sm"
            w="fit-content"
            onClick={() => {
              setSession(null);
              navigate({ to: '/sign-in' });
            }}
          >
            {t('Sign out')}
          </Button>
        </Stack>
      </Paper>
    </Center>
  );
}
