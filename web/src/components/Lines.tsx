import { Textarea } from '@mantine/core';
import { useState } from 'react';

/** A list of texts, one a line. Empty lines count for nothing. */
export function Lines({
  label,
  help,
  value,
  set,
  placeholder,
}: {
  label: string;
  help?: string;
  value: string[];
  set: (next: string[]) => void;
  placeholder?: string;
}) {
  const [text, setText] = useState(value.join('\n'));
  const known = text
    .split('\n')
    .map((l) => l.trim())
    .filter(Boolean)
    .join('\n');
  // Somebody else, such as the folder tree, has changed the list.
  if (known !== value.join('\n')) setText(value.join('\n'));
  return (
    <Textarea
      label={label}
      description={help}
      placeholder={placeholder}
      autosize
      minRows={2}
      maxRows={10}
      value={text}
      styles={{ input: { fontFamily: 'var(--mantine-font-family-monospace)', fontSize: 13 } }}
      onChange={(e) => {
        const next = e.currentTarget.value;
        setText(next);
        set(
          next
            .split('\n')
            .map((l) => l.trim())
            .filter(Boolean),
        );
      }}
    />
  );
}
