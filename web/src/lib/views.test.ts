import { expect, it } from 'vitest';
import { addressOf, sameView, viewsOf, withView } from './views';

const late = { name: 'Late', path: '/accounts', search: { show: 'late', sort: '-name' } };

it('keeps views and gives them addresses', () => {
  expect(viewsOf(JSON.stringify([late]))).toEqual([late]);
  expect(addressOf(late)).toBe('/accounts?show=late&sort=-name');
  expect(addressOf({ ...late, search: {} })).toBe('/accounts');
  expect(sameView(late.search, { sort: '-name', show: 'late' })).toBe(true);
  expect(sameView(late.search, { show: 'late' })).toBe(false);
  expect(withView([late], { ...late, search: {} })).toEqual([{ ...late, search: {} }]);
});

it('reads nothing that is no view of this console', () => {
  for (const text of ['', '{', '{}', '[1]', '[{"name":"x","path":"//evil.example","search":{}}]', 'null']) {
    expect(viewsOf(text), text).toEqual([]);
  }
});
