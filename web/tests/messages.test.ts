import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript';
import { expect, test } from 'vitest';
import de from '../src/i18n/de.json';
import es from '../src/i18n/es.json';
import fr from '../src/i18n/fr.json';
import pt from '../src/i18n/pt.json';

const src = path.resolve(import.meta.dirname, '../src');

/** Source files whose texts are the console's. */
const sources = readdirSync(src, { recursive: true, encoding: 'utf8' })
  .filter((name) => /\.tsx?$/.test(name) && !/\.test\.|schema\.d\.ts$/.test(name))
  .map((name) => {
    const text = readFileSync(path.join(src, name), 'utf8');
    const kind = name.endsWith('x') ? ts.ScriptKind.TSX : ts.ScriptKind.TS;
    return { name, tree: ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true, kind) };
  });

const literal = (node: ts.Node | undefined) => (node && ts.isStringLiteralLike(node) ? node.text : undefined);

/** Attributes whose text people read. */
const READ = /^(label|title|description|placeholder|aria-label|alt|word|text)$/;

const used = new Set<string>();
const problems: string[] = [];

for (const { name, tree } of sources) {
  const where = (node: ts.Node) => `${name}:${tree.getLineAndCharacterOfPosition(node.getStart()).line + 1}`;
  const visit = (node: ts.Node) => {
    if (ts.isCallExpression(node) && ts.isIdentifier(node.expression)) {
      const [first, second, third] = node.arguments;
      if (node.expression.text === 't' && name !== 'i18n/index.ts') {
        const text = literal(first);
        if (text === undefined) problems.push(`${where(node)}: t() of something else than a text`);
        else used.add(text);
      }
      if (node.expression.text === 'plural') {
        const [one, other] = [literal(second), literal(third)];
        if (one === undefined || other === undefined) problems.push(`${where(node)}: plural() without texts`);
        else used.add(`${one}|${other}`);
      }
    }
    if (ts.isJsxText(node) && /\p{L}{2,}/u.test(node.text)) {
      problems.push(`${where(node)}: '${node.text.trim()}' is not translated`);
    }
    if (ts.isJsxAttribute(node) && READ.test(node.name.getText()) && node.initializer) {
      const text = literal(node.initializer);
      if (text && /\p{L}{2,}/u.test(text)) problems.push(`${where(node)}: '${text}' is not translated`);
    }
    ts.forEachChild(node, visit);
  };
  visit(tree);
}

test('every text goes through the message files', () => {
  expect(problems).toEqual([]);
  expect(used.size).toBeGreaterThan(100);
});

const gaps = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(String).sort();

test.each(Object.entries({ de, es, fr, pt }))('%s has every text and no other', (_, messages) => {
  const file: Record<string, string> = messages;
  expect([...used].filter((text) => !file[text])).toEqual([]);
  expect(Object.keys(file).filter((text) => !used.has(text))).toEqual([]);
  for (const [text, translated] of Object.entries(file)) {
    const [here, there] = [text, translated].map((x) => x.split('|'));
    expect(there?.length, text).toBe(here?.length);
    expect(new Set(gaps(translated)), text).toEqual(new Set(gaps(text)));
  }
});
