// How the pages of a host look: its name, logo and colour come from the server.
import { useEffect } from 'react';
import type { Branding } from '../api/types';

/** The colour the server answers where nobody chose one; the console then keeps its own calm surface. */
const UNBRANDED = '#191F33';
const UNACCENTED = '#D88463';

function luminance(colour: string): number {
  const digits = colour.replace('#', '');
  const full = digits.length === 3 ? [...digits].map((d) => d + d).join('') : digits;
  const [r = 0, g = 0, b = 0] = [0, 2, 4].map((at) => {
    const part = Number.parseInt(full.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Black or white, whichever is easier to read on a colour. */
export const inkOn = (colour: string) => (luminance(colour) > 0.179 ? '#000000' : '#ffffff');

/** A colour that somebody chose, or nothing. */
function chosen(colour: string | undefined, usual: string): string | null {
  if (!colour || !/^#?([0-9a-f]{3}|[0-9a-f]{6})$/i.test(colour) || colour.toUpperCase() === usual)
    return null;
  return colour.startsWith('#') ? colour : `#${colour}`;
}

export function useBrand(branding: Branding | undefined) {
  const name = branding?.BrandName || 'Encke';
  useEffect(() => {
    document.documentElement.dataset.brand = name;
    document.title = document.title.replace(/(^| · )[^·]*$/, `$1${name}`);
  }, [name]);
  const top = chosen(branding?.TopColor, UNBRANDED);
  const accent = chosen(branding?.AccentColor, UNACCENTED);
  return {
    name,
    logo: branding?.HasImage ? `/gen/logo.img?${branding.ImageEtag}` : '/favicon.svg',
    header: {
      ...(top ? { background: top, color: inkOn(top) } : {}),
      ...(accent ? { borderBottom: `2px solid ${accent}` } : {}),
    },
  };
}
