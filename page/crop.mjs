// The part of a photograph that the network sees, by the crop policy in the model file: affectnet/images/crop_policy.py and crop.py.

import {asJpeg} from './jpeg.mjs';
import {image, reduced, resized, resizedByOpencv, roundEven} from './pixels.mjs';

const DECODE_GAP = 1.5; // as in crop.py
const MOST_PIXELS = 64e6;

// The box as annotators would have drawn it. map: of the detector, in the model file; without one the box itself.
export function mapped(box, map) {
  if (!map) return box;
  const [left, top, right, bottom] = box;
  const [width, height] = [right - left, bottom - top];
  const x = (left + right) / 2 + map.right * width;
  const y = (top + bottom) / 2 + map.down * height;
  const [across, down] = [(map.width * width) / 2, (map.height * height) / 2];
  return [x - across, y - down, x + across, y + down];
}

// [left, top, right, bottom] of the region to cut, before it is moved to whole px. box: null for the whole photograph.
export function region({width, height}, box, policy) {
  const inside = box ?? [0, 0, width, height];
  const [left, top] = [Math.max(0, inside[0]), Math.max(0, inside[1])];
  const [right, bottom] = [Math.min(width, inside[2]), Math.min(height, inside[3])];
  const factor = box ? 1 + 2 * policy.margin : 1;
  let [across, down] = [(right - left) * factor, (bottom - top) * factor];
  if (policy.square) across = down = Math.max(across, down);
  const [x, y] = [(left + right) / 2, (top + bottom) / 2];
  const grown = [x - across / 2, y - down / 2, x + across / 2, y + down / 2];
  if (policy.padding !== 'shrink') return grown;
  return [Math.max(0, grown[0]), Math.max(0, grown[1]), Math.min(width, grown[2]), Math.min(height, grown[3])];
}

// Width and height of the crop.
export function target([left, top, right, bottom], policy) {
  const [width, height] = [right - left, bottom - top];
  const longest = Math.max(width, height);
  const side = policy.enlarge ? policy.image_px : Math.min(policy.image_px, Math.max(1, roundEven(longest)));
  return [Math.max(1, roundEven((side * width) / longest)), Math.max(1, roundEven((side * height) / longest))];
}

// The crop as it is stored for training. jpeg: whether the photograph is a JPEG, which Python decodes smaller where the crop allows it;
// plain: whether isPlainJpeg() says so of it, which is not compressed once more where it is its own crop;
// grey: only for a network that sees no colour; saves two thirds of the time of the JPEG's loss, and differs in saturated colours.
export function cropped(pixels, box, policy, {jpeg = false, plain = false, grey = false} = {}) {
  const cut = region(pixels, box, policy);
  const [width, height] = target(cut, policy);
  if (plain && policy.format === 'jpeg' && isWhole(pixels, cut, [width, height])) return pixels;
  const room = Math.min((cut[2] - cut[0]) / width, (cut[3] - cut[1]) / height) / DECODE_GAP;
  const shrink = jpeg ? [8, 4, 2, 1].find((factor) => factor <= Math.max(1, room)) : 1;
  const part = extracted(pixels, snapped(cut, shrink), policy, shrink);
  const resize = policy.resampling === 'area' ? resizedByOpencv : resized;
  const crop = resize(part, width, height);
  return policy.format === 'jpeg' ? asJpeg(crop === pixels ? {...crop, data: crop.data.slice()} : crop, policy.quality, grey) : crop;
}

// Whether the crop is the whole photograph at its own size.
function isWhole(pixels, cut, size) {
  const whole = [0, 0, pixels.width, pixels.height];
  return size.every((side, at) => side === whole[2 + at]) && cut.every((edge, at) => Math.abs(edge - whole[at]) <= 0.5);
}

// The nearest region with edges on multiples of `grid` px, in units of the grid.
function snapped([left, top, right, bottom], grid) {
  const [x, y] = [roundEven(left / grid), roundEven(top / grid)];
  return [x, y, x + Math.max(1, roundEven((right - left) / grid)), y + Math.max(1, roundEven((bottom - top) / grid))];
}

// The region of the photograph, which is `shrink` times smaller; outside of the photograph it is filled.
function extracted(pixels, bounds, policy, shrink) {
  let [left, top, right, bottom] = bounds;
  const [across, down] = [Math.ceil(pixels.width / shrink), Math.ceil(pixels.height / shrink)];
  const reach = [Math.max(right, across) - Math.min(left, 0), Math.max(bottom, down) - Math.min(top, 0)];
  const fill = policy.padding === 'mean' ? mean(pixels) : [0, 0, 0];
  const factor = Math.ceil(Math.max(Math.sqrt((reach[0] * reach[1]) / MOST_PIXELS), reach[0] / 32000, reach[1] / 32000));
  if (factor > 1) {
    [left, top, right, bottom] = [left, top, right, bottom].map((edge) => roundEven(edge / factor));
    const small = [Math.max(1, Math.floor(across / factor)), Math.max(1, Math.floor(down / factor))];
    return filled(resized(pixels, ...small), [left, top, right, bottom], policy.padding, small, fill);
  }
  return filled(shrunk(pixels, bounds, shrink), bounds, policy.padding, [across, down], fill);
}

// The blocks of the photograph within the bounds, averaged, with where they begin.
function shrunk(pixels, [left, top, right, bottom], shrink) {
  if (shrink === 1) return pixels;
  const clip = (edge, length) => Math.min(length, Math.max(0, edge * shrink));
  const [x, y] = [clip(left, pixels.width), clip(top, pixels.height)];
  const part = window(pixels, x, y, clip(right, pixels.width), clip(bottom, pixels.height));
  return {...reduced(part, shrink), x: x / shrink, y: y / shrink};
}

function window(pixels, left, top, right, bottom) {
  const part = image(right - left, bottom - top);
  for (let y = top; y < bottom; y++) {
    const start = 3 * (y * pixels.width + left);
    part.data.set(pixels.data.subarray(start, start + 3 * part.width), 3 * (y - top) * part.width);
  }
  return part;
}

// width, height: of the whole photograph, of which `pixels` may be a part, whose corner is x, y; fill: the colour outside of it.
function filled(pixels, [left, top, right, bottom], padding, [width, height], fill) {
  const {x: offsetX = 0, y: offsetY = 0} = pixels;
  const part = image(right - left, bottom - top);
  const repeats = padding === 'edge' || padding === 'shrink';
  for (let y = top; y < bottom; y++) {
    const row = Math.min(pixels.height - 1, Math.max(0, y - offsetY));
    for (let x = left; x < right; x++) {
      const to = 3 * ((y - top) * part.width + x - left);
      const column = Math.min(pixels.width - 1, Math.max(0, x - offsetX));
      const inside = repeats || (x >= 0 && y >= 0 && x < width && y < height);
      const from = 3 * (row * pixels.width + column);
      for (let channel = 0; channel < 3; channel++) part.data[to + channel] = inside ? pixels.data[from + channel] : fill[channel];
    }
  }
  return part;
}

function mean(pixels) {
  const sums = [0, 0, 0];
  for (let at = 0; at < pixels.data.length; at++) sums[at % 3] += pixels.data[at];
  return sums.map((sum) => roundEven((3 * sum) / pixels.data.length));
}
