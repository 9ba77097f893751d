import { expect, it } from 'vitest';
import { roundTop } from './charts';

it('puts a round number on top of a scale', () => {
  expect([0, 1, 3, 7, 12, 480].map((n) => roundTop(n))).toEqual([1, 1, 5, 10, 20, 500]);
  expect([1, 700, 1024, 5000, 3 * 2 ** 20].map((n) => roundTop(n, 1024))).toEqual([
    1,
    1024,
    1024,
    8192,
    4 * 2 ** 20,
  ]);
});
