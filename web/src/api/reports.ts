// The report service: documents as the server keeps them, and what the pages ask for.
import { keepPreviousData, useQuery } from '@tanstack/react-query';
import { t } from '../i18n';
import { bytes, saveBlob } from '../lib/format';
import { ApiError, call, errorOf } from './client';
import { session } from './session';
import type { Schedule } from './types';

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
  audience: Audience;
};
export type Audience = 'none' | 'admins' | 'everyone';
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

export type Format = 'csv' | 'xlsx' | 'pdf' | 'parquet';
/** How far a file is. `rows`: they are being fetched, and nobody knows how many there are. */
export type ExportStatus = {
  State: 'rows' | 'file' | 'done' | 'failed';
  Rows: number;
  Total?: number;
  Bytes?: number;
  Message?: string;
};

export type ReportSchedule = {
  ScheduleID: string;
  ReportID: string;
  Schedules: Schedule[];
  TimeZone: string;
  Recipients: string[];
  Format: Format;
  /** Unix seconds; 0 for never. */
  Next: number;
  Sent: number;
  Problem: string;
};

export const startExport = async (report: SavedReport, format: Format) => {
  const fields = { ReportID: report.ReportID, Format: format, Locale: localeParam() };
  return (await call<{ ExportID: string }>(path('start-export'), fields)).ExportID;
};
export const exportStatus = (id: string) => call<ExportStatus>(path('export-status'), { ExportID: id });
export const stopExport = (id: string) => call(path('stop-export'), { ExportID: id });

const fileName = (name: string, end: string) => `${name.replace(/[\\/:*?"<>|]/g, '_')}.${end}`;

async function fetchFile(name: string, fields: Record<string, string>): Promise<Blob> {
  const body = new URLSearchParams({ ...fields, ...credentials() });
  const response = await fetch(path(name), { method: 'POST', body });
  const failure = await failureOf(response);
  if (failure) throw failure;
  return response.blob();
}

/** Fetches an export that is done, and lets the server forget it. */
export async function download(id: string, report: SavedReport, format: Format) {
  saveBlob(fileName(report.Name, format), await fetchFile('export-file', { ExportID: id }));
  await stopExport(id);
}

/** Keeps a template as a file. */
export async function downloadTemplate(template: Template) {
  saveBlob(
    fileName(template.name, 'yaml'),
    await fetchFile('export-template', { Template: String(template.id) }),
  );
}

/** A template as YAML. */
export const templateText = async (id: number) =>
  (await fetchFile('export-template', { Template: String(id) })).text();

export type Table = { Table: string; Columns: { name: string; type: ColumnType }[] };

export type Source = {
  SourceID: string;
  Name: string;
  Source: {
    kind: 'postgres' | 'mysql' | 'sqlite' | 'watched' | 'file';
    host?: string;
    port?: number;
    database?: string;
    user?: string;
    tls?: string;
    ca?: string;
    path?: string;
    file?: string;
    timeoutSeconds?: number;
    /** Unix seconds at which a watched file was loaded. */
    loaded?: number;
  };
  HasPassword: boolean;
  Version: number;
  Problem: string | null;
};

export const useSources = () =>
  useQuery({
    queryKey: ['report-sources'],
    queryFn: () => call<Source[]>(path('list-sources')),
    // Watched files change without an event.
    refetchInterval: 5000,
  });

export const listTables = (id: string) => call<Table[]>(path('list-tables'), { SourceID: id });

/** How far an upload is: 0 to 1 while it is sent, then it is being loaded. */
export type UploadProgress = { sent: number; of: number };

/** Sends a file; a page can tell how far it is, which `fetch` can not. */
function send(body: FormData, onProgress: (p: UploadProgress) => void): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open('POST', path('upload-source'));
    request.upload.onprogress = (e) => onProgress({ sent: e.loaded, of: e.total });
    request.onload = () => {
      try {
        const answer = JSON.parse(request.responseText) as unknown;
        const failure = errorOf(answer);
        if (failure) reject(failure);
        else resolve(answer);
      } catch (e) {
        reject(e);
      }
    };
    request.onerror = () => reject(new ApiError(0, t('The server can not be reached')));
    request.send(body);
  });
}

type Limits = { FileBytes: number; QuotaBytes: number; UsedBytes: number };

/** Uploads a file and makes a template of each of its tables; answers the first one's number. */
export async function uploadTable(file: File, onProgress: (p: UploadProgress) => void): Promise<number> {
  const limits = await call<Limits>(path('upload-limits'));
  if (file.size > limits.FileBytes) {
    throw new ApiError(413, t('A file has at most {size}', { size: bytes(limits.FileBytes) }));
  }
  const body = new FormData();
  for (const [name, value] of Object.entries(credentials())) body.set(name, value);
  body.set('FileName', file.name);
  body.set('File', file);
  const made = (await send(body, onProgress)) as { SourceID: string; Tables: Table[] };
  return makeTemplates(made.SourceID, made.Tables, 'Uploads');
}

/** Makes a template of each table, with all of its columns; answers the first one's number. */
export async function makeTemplates(source: string, tables: Table[], group: string): Promise<number> {
  const numbers: number[] = [];
  for (const table of tables) {
    const reserved = new Set(['uid', 'lastUpdateDateTime', '#result_id#']);
    const columns = table.Columns.map((c) => ({
      key: reserved.has(c.name) ? `${c.name}_` : c.name,
      type: c.type,
      column: c.name,
    }));
    const document = {
      name: table.Table,
      group,
      source,
      table: table.Table,
      columns,
    };
    const saved = await call<{ Template: number }>(path('save-template'), { Template: document });
    numbers.push(saved.Template);
  }
  if (numbers[0] === undefined) throw new ApiError(400, t('The file has no tables'));
  return numbers[0];
}
