// Checks documents against the structures of the server's OpenAPI document.
import { type Schema, Validator } from '@cfworker/json-schema';

type Json = Record<string, unknown>;

let loaded: Promise<Json> | null = null;

/** The published structures, fetched once. */
async function structures(): Promise<Json> {
  loaded ??= fetch('/docs/openapi.json').then((r) => r.json() as Promise<Json>);
  return loaded;
}

/** What is wrong with a document, each with its place. What the structure does not name is allowed and kept. */
export async function check(name: string, value: unknown): Promise<string[]> {
  const openapi = (await structures()) as { components: { schemas: Record<string, Json> } };
  // The structures say what the server always answers; of what is sent everything may be left out.
  const schemas = structuredClone(openapi.components.schemas);
  for (const schema of Object.values(schemas)) delete schema.required;
  const schema = { $ref: `#/components/schemas/${name}`, components: { schemas } } as unknown as Schema;
  const { valid, errors } = new Validator(schema, '2020-12', false).validate(value);
  if (valid) return [];
  const seen = new Set<string>();
  for (const error of errors) {
    if (['$ref', 'properties', 'items', 'additionalProperties'].includes(error.keyword)) continue;
    seen.add(`${error.instanceLocation.replace(/^#/, '') || '/'}: ${error.error}`);
  }
  return [...seen].slice(0, 20);
}
