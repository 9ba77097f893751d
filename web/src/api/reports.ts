// The report service: documents as the server keeps them, and what the pages ask for.
import { keepPreviousData, useQuery } from '@tanstack/react-query';
import { t } from '../i18n';
import { ApiError, call, errorOf } from './client';
import { session } from './session';

export type ColumnType = 'NUMBER' | 'STRING' | 'DATE' | 'DATETIME' | 'AMOUNT' | 'IMAGELINK';
export type Names = Record<string, string>;
export type Column = { key: string; type: ColumnType; names?: Names };
export type ParameterKind = 'text' | 'number' | 'dateRange' | 'list' | 'multiSelect' | 'hierarchy';
export type Parameter = {
  key: string;
  kind: ParameterKind;
  column: string;
  names?: Names;
  required?: boolean;
};
export type Template = {
  id: number;
  name: string;
  group?: string;
  source: string;
  columns: Column[];
  parameters?: Parameter[];
  owner: string;
};
export type Cell = string | number | null;
export type Total = 'sum' | 'avg' | 'min' | 'max' | 'count';
export type Chosen = { key: string; name?: string; total?: Total };
export type Op =
  | 'eq'
  | 'ne'
  | 'lt'
  | 'le'
  | 'gt'
  | 'ge'
  | 'in'
  | 'contains'
  | 'startsWith'
  | 'empty'
  | 'notEmpty';
export type Filter = { column: string; op: Op; value?: Cell | Cell[] };
export type Choice = Cell | Cell[] | { from?: number; to?: number } | { value: Cell; includeBelow?: boolean };
export type Report = {
  name: string;
  template: number;
  columns: (string | Chosen)[];
  data?: { kind: 'sample'; size: number; seed: number };
  freshSeconds?: number;
  parameters?: Record<string, Choice>;
  filters?: Filter[];
  sort?: { column: string; descending?: boolean }[];
  group?: string[];
  pivot?: { column: string; value: string; total: Total };
  chart?: Chart;
};
/** How rows are drawn: the column along which, and as what. */
export type Chart = { kind: 'bar' | 'line'; label: string };
export type Code = { Created: number; Expires: number; Addresses: string; Locale: string };
export type SavedReport = {
  ReportID: string;
  Name: string;
  Version: number;
  Report: Report;
  Own: boolean;
  Owner: string;
  Code: Code | null;
};
export type Preview = {
  Columns: { key: string; name: string; type: ColumnType }[];
  Rows: Cell[][];
  More: boolean;
  Sampled: boolean;
};
export type LogEntry = { Minute: number; Address: string; Status: number; Calls: number; Rows: number };

export const path = (name: string) => `/api/encke/v1/reports/${name}`;
/** The language that names of columns are shown in. */
export const locale = () =>
  /^[a-z]{2}(-[A-Z]{2})?$/.test(navigator.language) ? navigator.language : 'en-US';
const localeParam = () => locale().replace('-', '_');

export function nameIn(names: Names | undefined, key: string): string {
  const language = locale().slice(0, 2);
  return names?.[language] ?? names?.en ?? Object.values(names ?? {})[0] ?? key;
}

export const useReports = () =>
  useQuery({ queryKey: ['reports'], queryFn: () => call<SavedReport[]>(path('list')) });

export const useTemplates = () =>
  useQuery({ queryKey: ['report-templates'], queryFn: () => call<Template[]>(path('list-templates')) });

export const usePreview = (report: Report | null) =>
  useQuery({
    queryKey: ['report-preview', report],
    queryFn: () => call<Preview>(path('preview'), { Report: report ?? {}, Locale: localeParam() }),
    enabled: report !== null,
    placeholderData: keepPreviousData,
    retry: false,
  });

/** Values to choose from, or places of a tree: id, id of the place above, name. */
export const useOffered = (template: number, parameter: string, enabled: boolean) =>
  useQuery({
    queryKey: ['report-values', template, parameter],
    queryFn: () => call<Cell[][]>(path('parameter-values'), { Template: template, Parameter: parameter }),
    enabled,
    staleTime: 60_000,
  });

export const saveReport = (report: Report, id?: string) =>
  call<{ ReportID: string }>(path('save'), { Report: report, ReportID: id });

export const generateCode = (id: string) =>
  call<{ APICode: string; Path: string }>(path('generate-code'), { ReportID: id, Locale: localeParam() });

function credentials(): Record<string, string> {
  const who = session();
  if (!who) throw new ApiError(403, t('Not signed in'));
  return { Username: who.username, AuthType: 'SessionKey', SessionKey: who.key };
}

async function failureOf(response: Response): Promise<ApiError | null> {
  if (!response.headers.get('content-type')?.startsWith('application/json')) return null;
  return errorOf(await response.clone().json());
}

/** Fetches a report as a file and hands it to the browser to be kept. */
export async function download(report: SavedReport, format: 'csv' | 'xlsx' | 'parquet') {
  const fields = { ReportID: report.ReportID, Format: format, Locale: localeParam(), ...credentials() };
  const response = await fetch(path('export'), { method: 'POST', body: new URLSearchParams(fields) });
  const failure = await failureOf(response);
  if (failure) throw failure;
  const url = URL.createObjectURL(await response.blob());
  const link = document.createElement('a');
  link.href = url;
  link.download = `${report.Name.replace(/[\\/:*?"<>|]/g, '_')}.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

type Table = { Table: string; Columns: { name: string; type: ColumnType }[] };

/** Uploads a file and makes a template of each of its tables; answers the first one's number. */
export async function uploadTable(file: File): Promise<number> {
  const body = new FormData();
  for (const [name, value] of Object.entries(credentials())) body.set(name, value);
  body.set('FileName', file.name);
  body.set('File', file);
  const response = await fetch(path('upload-source'), { method: 'POST', body });
  const failure = await failureOf(response);
  if (failure) throw failure;
  const made = (await response.json()) as { SourceID: string; Tables: Table[] };
  const numbers: number[] = [];
  for (const table of made.Tables) {
    const reserved = new Set(['uid', 'lastUpdateDateTime', '#result_id#']);
    const columns = table.Columns.map((c) => ({
      key: reserved.has(c.name) ? `${c.name}_` : c.name,
      type: c.type,
      column: c.name,
    }));
    const document = {
      name: table.Table,
      group: 'Uploads',
      source: made.SourceID,
      table: table.Table,
      columns,
    };
    const saved = await call<{ Template: number }>(path('save-template'), { Template: document });
    numbers.push(saved.Template);
  }
  if (numbers[0] === undefined) throw new ApiError(400, t('The file has no tables'));
  return numbers[0];
}
