// Faces followed from frame to frame, and their predictions smoothed: affectnet/predict/films/tracks.py and smoothing.py, whose constants
// come in settings.json.

import {area, common} from './detect.mjs';
import {softmax} from './model.mjs';
import {image, resized} from './pixels.mjs';

export class Tracker {
  // constants: of tracks.py, in lower case.
  constructor(constants) {
    Object.assign(this, {constants, tracks: [], last: 0, seen: null});
  }

  // The number of each box of the next frame. shown: the frame as look() returns it.
  follow(seconds, shown, boxes) {
    const cut = this.seen && difference(this.seen, shown, this.constants) >= this.constants.cut;
    this.seen = shown;
    this.tracks = cut ? [] : this.tracks.filter((track) => seconds - track.seconds <= this.constants.bridge_s);
    const assigned = this.assign(this.tracks.map((track) => this.expected(track, seconds)), boxes);
    return boxes.map((box, at) => {
      let track = assigned.get(at);
      if (track) this.update(track, box, seconds);
      else this.tracks.push((track = {number: ++this.last, box, seconds, velocity: [0, 0]}));
      return track.number;
    });
  }

  // The pair of the largest overlap first.
  assign(expected, boxes) {
    const pairs = expected.flatMap((one, track) => boxes.map((other, at) => ({overlap: iou(this.grown(one), this.grown(other)), track, at})));
    pairs.sort((one, other) => other.overlap - one.overlap);
    const assigned = new Map();
    const taken = new Set();
    for (const {overlap, track, at} of pairs) {
      if (overlap < this.constants.least_iou || assigned.has(at) || taken.has(track)) continue;
      assigned.set(at, this.tracks[track]);
      taken.add(track);
    }
    return assigned;
  }

  expected({box: [left, top, right, bottom], seconds: before, velocity}, seconds) {
    const fading = this.constants.fading_s;
    const [x, y] = velocity.map((speed) => speed * fading * (1 - Math.exp((before - seconds) / fading)));
    return [left + x, top + y, right + x, bottom + y];
  }

  update(track, box, seconds) {
    const passed = Math.max(seconds - track.seconds, this.constants.shortest_s);
    const weight = 1 - Math.exp(-passed / this.constants.velocity_s);
    const seen = [0, 1].map((at) => (box[at] + box[at + 2] - track.box[at] - track.box[at + 2]) / 2 / passed);
    const velocity = track.velocity.map((old, at) => old + weight * (seen[at] - old));
    Object.assign(track, {box, seconds, velocity});
  }

  grown([left, top, right, bottom]) {
    const [x, y] = [this.constants.buffer * (right - left), this.constants.buffer * (bottom - top)];
    return [left - x, top - y, right + x, bottom + y];
  }
}

function iou(one, other) {
  const shared = common(one, other);
  const union = area(one) + area(other) - shared;
  return union > 0 ? shared / union : 0;
}

// The frame as a whole, side × side px, to notice a cut.
export function look(pixels, {side, small_part: part}) {
  const step = Math.max(1, Math.floor(Math.min(pixels.width, pixels.height) / (part * side)));
  const sampled = image(Math.ceil(pixels.width / step), Math.ceil(pixels.height / step));
  for (let y = 0, to = 0; y < sampled.height; y++) {
    for (let x = 0; x < sampled.width; x++, to += 3) {
      const from = 3 * step * (y * pixels.width + x);
      sampled.data.set(pixels.data.subarray(from, from + 3), to);
    }
  }
  return resized(sampled, side, side, 'box').data;
}

// 0 for the same picture, about 1 for an entirely different one.
function difference(one, other, {side, shift, changed, least_contrast: least}) {
  const [dark, darkOther] = [grey(one), grey(other)];
  let best = {alike: -Infinity};
  for (let down = -shift; down <= shift; down++) {
    for (let right = -shift; right <= shift; right++) {
      const alike = correlation(dark, darkOther, side, down, right);
      if (alike > best.alike) best = {alike, down, right};
    }
  }
  const here = centred(overlapping(one, side, best.down, best.right));
  const there = centred(overlapping(other, side, -best.down, -best.right));
  const spread = (part) => mean(grey(part).map(Math.abs));
  const factor = Math.min(2, Math.max(0.5, (spread(here) + least) / (spread(there) + least)));
  const scaled = there.map((value) => value * factor);
  const contrast = (mean(here.map(Math.abs)) + mean(scaled.map(Math.abs))) / 2;
  const differences = grey(here.map((value, at) => Math.abs(value - scaled[at])));
  return quantile(differences, 1 - changed) / (contrast + least);
}

// The part of a look that overlaps with one displaced by down, right.
function overlapping(shown, side, down, right) {
  const part = [];
  for (let y = Math.max(0, down); y < side + Math.min(0, down); y++) {
    const line = 3 * y * side;
    part.push(...shown.subarray(line + 3 * Math.max(0, right), line + 3 * (side + Math.min(0, right))));
  }
  return Float64Array.from(part);
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function grey(part) {
  const result = new Float64Array(part.length / 3);
  for (let at = 0; at < result.length; at++) result[at] = (part[3 * at] + part[3 * at + 1] + part[3 * at + 2]) / 3;
  return result;
}

function centred(part) {
  const middle = quantile(grey(part), 0.5);
  return part.map((value) => value - middle);
}

// Of the parts of two grey looks that overlap when the other is displaced.
function correlation(one, other, side, down, right) {
  const [top, left] = [Math.max(0, down), Math.max(0, right)];
  const [bottom, end] = [side + Math.min(0, down), side + Math.min(0, right)];
  const moved = down * side + right;
  let [sum, sumOther, shared, squares, squaresOther] = [0, 0, 0, 0, 0];
  for (let y = top; y < bottom; y++) {
    for (let at = y * side + left; at < y * side + end; at++) {
      const a = one[at];
      const b = other[at - moved];
      sum += a;
      sumOther += b;
      shared += a * b;
      squares += a * a;
      squaresOther += b * b;
    }
  }
  const count = (bottom - top) * (end - left);
  const variance = squares / count - (sum / count) ** 2;
  const varianceOther = squaresOther / count - (sumOther / count) ** 2;
  const product = variance * varianceOther;
  return product > 1 ? (shared / count - (sum / count) * (sumOther / count)) / Math.sqrt(product) : 0;
}

// As numpy's, with linear interpolation.
function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = share * (sorted.length - 1);
  const below = Math.floor(at);
  return sorted[below] + (at - below) * (sorted[Math.min(below + 1, sorted.length - 1)] - sorted[below]);
}

export class Smoother {
  constructor() {
    this.states = new Map();
  }

  // The next prediction for a face: an earlier one counts e times less after `constant` seconds; 0 for no smoothing.
  smooth(number, seconds, face, constant) {
    const logs = face.probabilities.map((p) => Math.log(Math.max(p, 1e-6)));
    const affect = face.valence === null ? [] : [face.valence, face.arousal];
    let values = [...logs, ...affect];
    const before = this.states.get(number);
    if (before && constant > 0) {
      const weight = 1 - Math.exp(Math.min(0, before.seconds - seconds) / constant);
      values = before.values.map((old, at) => old + weight * (values[at] - old));
    }
    this.states.set(number, {seconds, values});
    if (constant === 0) return face;
    const [valence, arousal] = affect.length ? values.slice(logs.length) : [null, null];
    return {...face, probabilities: logs.length ? softmax(values.slice(0, logs.length)) : [], valence, arousal};
  }
}
