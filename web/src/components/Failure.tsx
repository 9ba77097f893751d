import { Alert } from '@mantine/core';

/** What went wrong, told at once. */
export function Failure({ error }: { error: Error | null | undefined }) {
  if (!error) return null;
  return (
    <Alert color="red" variant="light" role="alert">
      {error.message}
    </Alert>
  );
}
