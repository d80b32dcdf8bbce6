// Numbers as people read them.
'use strict';

function scaled(number, units) {
  let unit = 0;
  while (number >= 1000 && unit < units.length - 1) {
    number /= 1000;
    unit += 1;
  }
  return [unit === 0 ? String(number) : number.toFixed(number < 9.995 ? 2 : number < 99.95 ? 1 : 0), units[unit]];
}

/** 2846160 as "2.85M". */
const count = (number) => scaled(number, ['', 'k', 'M', 'G', 'T']).join('');

/** 727009 as "727 kB". */
const bytes = (number) => scaled(number, ['B', 'kB', 'MB', 'GB', 'TB']).join(' ');

/** A shape as "batch x 3 x 224 x 224", with ? for unknown lengths. */
const shape = (lengths) => lengths?.map((length) => length ?? '?').join(' x ') ?? '?';

/** "1 layer", "2 layers". */
const plural = (number, noun) => `${number} ${noun}${number === 1 ? '' : 's'}`;

const percent = (part, whole) => `${Math.round((100 * part) / Math.max(1, whole))}%`;

module.exports = { count, bytes, shape, plural, percent };
