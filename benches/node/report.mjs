// What was measured, as text for a terminal and as the Node part of docs/benchmarks.md.
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, platform, release, arch } from 'node:os';

const PAGE = new URL('../../docs/benchmarks.md', import.meta.url);
const BEGIN = '<!-- node: begin -->';
const END = '<!-- node: end -->';

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The median of what taskloom was, round by round, beside a peer; in the form that is measured, or in another one. */
export function ratio(figures, measure, peer, form = 'taskloom') {
  return median(figures[measure][peer].map((value, round) => figures[measure][form][round] / value));
}

function number(value) {
  return value >= 100 ? Math.round(value).toLocaleString('en-US') : value.toFixed(value >= 10 ? 1 : 2);
}

function machine(rounds) {
  return [
    `date: ${new Date().toISOString().slice(0, 10)}`,
    'command: `make bench-node`',
    `processor: ${cpus()[0]?.model.trim()}, ${cpus().length} cores`,
    `system: ${platform()} ${release().split('-')[0]} ${arch()}`,
    `Node ${process.version.slice(1)}; medians of ${rounds} rounds`,
  ];
}

/** For a terminal. */
export function text(figures, floors, rounds) {
  const lines = [...machine(rounds), ''];
  for (const [measure, all] of Object.entries(figures)) {
    lines.push(measure);
    for (const [name, values] of Object.entries(all)) {
      const spread = `${number(Math.min(...values))}–${number(Math.max(...values))}`;
      const beside = `taskloom is ${ratio(figures, measure, name).toFixed(2)}×`;
      lines.push(`  ${name.padEnd(20)} ${number(median(values)).padStart(12)}  (${spread}); ${beside}`);
    }
  }
  lines.push('');
  for (const each of floors) lines.push(`${each.reached ? 'reached' : 'MISSED '}  ${each.what}: ${each.is}, wanted ${each.bound}`);
  return lines.join('\n');
}

function table(columns, rows) {
  return [columns, columns.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');
}

/** Replaces the Node part of the page and leaves the rest alone. */
export function writePage(figures, floors, rounds) {
  const measured = [];
  for (const [measure, all] of Object.entries(figures)) {
    for (const [name, values] of Object.entries(all)) {
      const spread = `${number(Math.min(...values))}–${number(Math.max(...values))}`;
      const beside = name === 'taskloom' ? '–' : `${ratio(figures, measure, name).toFixed(2)}×`;
      measured.push([measure, name, number(median(values)), spread, beside]);
    }
  }
  const section = [
    BEGIN,
    table(
      ['must reach', 'bound', 'is', 'verdict'],
      floors.map((each) => [each.what, each.bound, each.is, each.reached ? 'pass' : 'FAIL']),
    ),
    table(['measured', 'of', 'median', 'min–max', 'taskloom is'], measured),
    machine(rounds)
      .map((fact) => `- ${fact}`)
      .join('\n'),
    END,
  ].join('\n\n');
  const page = readFileSync(PAGE, 'utf8');
  const begin = page.indexOf(BEGIN);
  const end = page.indexOf(END);
  if (begin < 0 || end < begin) throw new Error(`docs/benchmarks.md lacks the marks ${BEGIN} and ${END}`);
  writeFileSync(PAGE, page.slice(0, begin) + section + page.slice(end + END.length));
}
