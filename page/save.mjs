// Results as files: the columns of `affectnet predict --csv`, and the picture with its frames.

import {best} from './view.mjs';

const EDGES = ['left', 'top', 'right', 'bottom'];

// name: of the photograph or film; rows: {seconds, at, face, whole}, at: place of the face by size, from 0 for the largest of its picture;
// tracked: whether the faces keep a number.
export function csv(name, rows, {labels, detector}, tracked) {
  const columns = ['path', 'seconds', ...(tracked ? ['track'] : []), 'face', 'where', 'detector', ...EDGES, 'expression', ...labels, 'valence', 'arousal'];
  const lines = rows.map(({seconds, at, face, whole}) => [
    name,
    seconds === null ? '' : seconds.toFixed(3),
    ...(tracked ? [face.number] : []),
    whole ? '' : at + 1,
    whole ? 'whole' : 'detected',
    whole ? '' : detector,
    ...face.box.map((edge) => (whole ? '' : +edge.toFixed(1))),
    best(face, labels) ?? '',
    ...face.probabilities.map((probability) => +probability.toPrecision(6)),
    ...[face.valence, face.arousal].map((value) => (value === null ? '' : +value.toFixed(4))),
  ]);
  return [columns, ...lines].map((line) => `${line.map(quoted).join(',')}\n`).join('');
}

// The name of the CSV: with the seconds over which its predictions are smoothed, or the least and most of them; none for no smoothing.
export function csvName(name, rows) {
  const constants = [...new Set(rows.map(({smoothing}) => smoothing ?? 0))].sort((one, other) => one - other);
  const most = constants.at(-1);
  const range = constants.length > 1 ? `${constants[0]}-${most}` : most;
  return `${name}${most ? `.smooth${range}` : ''}.faces.csv`;
}

function quoted(value) {
  const text = String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function download(blob, name) {
  const link = Object.assign(document.createElement('a'), {href: URL.createObjectURL(blob), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
