import { expect, it } from 'vitest';
import { crc32, xlsx } from './xlsx';

it('reckons the checksum of the ZIP format', () => {
  // The check value that the algorithm is published with.
  expect(crc32(new TextEncoder().encode('123456789'))).toBe(0xcbf43926);
});

it('writes a sheet with texts and numbers', async () => {
  const bytes = new Uint8Array(
    await xlsx([
      ['Name', 'Size'],
      ['<a & b>', 12],
    ]).arrayBuffer(),
  );
  const text = new TextDecoder('latin1').decode(bytes);
  expect(text.startsWith('PK\x03\x04')).toBe(true);
  expect(text).toContain('&lt;a &amp; b&gt;');
  expect(text).toContain('<c><v>12</v></c>');
  // The end of the archive counts its five files.
  const end = new DataView(bytes.buffer, bytes.length - 22);
  expect([end.getUint32(0, true), end.getUint16(10, true)]).toEqual([0x06054b50, 5]);
});
