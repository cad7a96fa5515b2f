// Results as files: the columns of `affectnet predict --csv`, and the picture with its frames.

import {best} from './view.mjs';

const EDGES = ['left', 'top', 'right', 'bottom'];

// rows: {seconds, face, whole} with the name of the photograph or film; tracked: whether the faces keep a number.
export function csv(name, rows, {labels, detector}, tracked) {
  const columns = ['path', 'seconds', ...(tracked ? ['track'] : []), 'face', 'where', 'detector', ...EDGES, 'expression', ...labels, 'valence', 'arousal'];
  const lines = rows.map(({seconds, at, face, whole}) => [
    name,
    seconds === null ? '' : seconds.toFixed(3),
    ...(tracked ? [face.number] : []),
    at + 1,
    whole ? 'whole' : 'detected',
    whole ? '' : detector,
    ...face.box.map((edge) => +edge.toFixed(1)),
    best(face, labels) ?? '',
    ...face.probabilities.map((probability) => +probability.toPrecision(6)),
    ...[face.valence, face.arousal].map((value) => (value === null ? '' : +value.toFixed(4))),
  ]);
  return [columns, ...lines].map((line) => `${line.map(quoted).join(',')}\n`).join('');
}

// A name that begins like a formula would run in a spreadsheet.
function quoted(value) {
  let text = String(value);
  if (typeof value === 'string' && /^[=+@\t\r-]/.test(text)) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function download(blob, name) {
  const link = Object.assign(document.createElement('a'), {href: URL.createObjectURL(blob), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
