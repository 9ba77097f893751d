import { Text } from '@mantine/core';

/** A message to people: its addresses become links, nothing else. */
export function NewsText({ text }: { text: string }) {
  const parts = text.split(/(https?:\/\/[^\s<>"']+)/);
  return (
    <Text size="sm" component="div" style={{ whiteSpace: 'pre-wrap', overflowWrap: 'anywhere' }}>
      {parts.map((part, at) =>
        at % 2 === 1 ? (
          <a key={`${at}-${part}`} href={part} target="_blank" rel="noreferrer noopener">
            {part}
          </a>
        ) : (
          part
        ),
      )}
    </Text>
  );
}
