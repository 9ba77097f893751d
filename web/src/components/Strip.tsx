// The last days as coloured squares, each a way to the job that coloured it.
import { Link } from '@tanstack/react-router';
import type { Job } from '../api/types';
import { language, t } from '../i18n';
import { statusName, statusTone } from '../lib/format';

export function Strip({ days, starts }: { days: (Job | undefined)[]; starts: number[] }) {
  return (
    <span className="strip">
      {starts.map((start, at) => {
        const job = days[at];
        const day = new Date(start * 1000).toLocaleDateString(language());
        const label = `${day}: ${job ? statusName(job.Status) : t('no job')}`;
        return job ? (
          <Link
            key={start}
            to="/jobs/$id"
            params={{ id: job.GUID }}
            data-tone={statusTone(job.Status)}
            aria-label={label}
            title={label}
          />
        ) : (
          <span key={start} title={label} />
        );
      })}
    </span>
  );
}
