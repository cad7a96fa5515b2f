// What storing a crop as JPEG does to its pixels, without the file: the training's crops were stored so, and without the same loss
// probabilities differ by up to 0.06 (docs/page.md). As libjpeg-turbo does it for affectnet/images/crop.py: its fast transform when
// encoding (jfdctfst.c, jcdctmgr.c, jccolor.c), an accurate one when decoding, no chroma subsampling.

const LUMA = [
  16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
  18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];
const CHROMA = [
  17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
  ...Array(32).fill(99),
];

// COSINES[8 u + x]: of the orthonormal transform.
const COSINES = Float64Array.from({length: 64}, (_, at) => {
  const [u, x] = [at >> 3, at & 7];
  return Math.cos(((2 * x + 1) * u * Math.PI) / 16) * (u ? 0.5 : Math.SQRT1_2 / 2);
});

// The factors that the fast transform leaves in its outputs (Arai, Agui and Nakajima 1988).
const FACTORS = [1, 2, 3, 4, 5, 6, 7].reduce((all, k) => [...all, Math.cos((k * Math.PI) / 16) * Math.SQRT2], [1]);

// Steps of a quality from 50 on, and what the fast transform's outputs are divided by.
function quantiser(table, quality) {
  const steps = Int32Array.from(table, (step) => Math.max(1, Math.floor((step * (200 - 2 * quality) + 50) / 100)));
  const divisors = steps.map((step, at) => (step * Math.round(16384 * FACTORS[at >> 3] * FACTORS[at & 7]) + 1024) >> 11);
  return {steps, divisors};
}

const level = (value) => (value < 0 ? 0 : value > 255 ? 255 : value);

// The pixels as they come out of a JPEG of this quality; in place. grey: only their brightness, for a network that sees no colour.
export function asJpeg(pixels, quality, grey = false) {
  const {width, height, data} = pixels;
  const count = width * height;
  const [luma, blueness, redness] = [new Int32Array(count), new Int32Array(count), new Int32Array(count)];
  for (let at = 0, from = 0; at < count; at++, from += 3) {
    const [red, green, blue] = [data[from], data[from + 1], data[from + 2]];
    luma[at] = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16;
    blueness[at] = (-11059 * red - 21709 * green + 32768 * blue + 8421375) >> 16;
    redness[at] = (32768 * red - 27439 * green - 5329 * blue + 8421375) >> 16;
  }
  roundTrip(luma, width, height, quantiser(LUMA, quality));
  if (grey) {
    for (let at = 0; at < data.length; at++) data[at] = luma[Math.trunc(at / 3)];
    return pixels;
  }
  const colour = quantiser(CHROMA, quality);
  roundTrip(blueness, width, height, colour);
  roundTrip(redness, width, height, colour);
  for (let at = 0, to = 0; at < count; at++, to += 3) {
    const [blue, red] = [blueness[at] - 128, redness[at] - 128];
    data[to] = level(luma[at] + ((91881 * red + 32768) >> 16));
    data[to + 1] = level(luma[at] + ((-22554 * blue - 46802 * red + 32768) >> 16));
    data[to + 2] = level(luma[at] + ((116130 * blue + 32768) >> 16));
  }
  return pixels;
}

const block = new Int32Array(64);
const values = new Float64Array(64);
const half = new Float64Array(64);

// Each block of 8 × 8 through the transform and back; beyond the edges the last px repeats.
function roundTrip(plane, width, height, {steps, divisors}) {
  for (let top = 0; top < height; top += 8) {
    for (let left = 0; left < width; left += 8) {
      for (let at = 0; at < 64; at++) {
        const y = Math.min(height - 1, top + (at >> 3));
        const x = Math.min(width - 1, left + (at & 7));
        block[at] = plane[y * width + x] - 128;
      }
      for (let row = 0; row < 64; row += 8) forward(row, 1);
      for (let column = 0; column < 8; column++) forward(column, 8);
      for (let at = 0; at < 64; at++) {
        const whole = Math.floor((Math.abs(block[at]) + (divisors[at] >> 1)) / divisors[at]);
        values[at] = (block[at] < 0 ? -whole : whole) * steps[at];
      }
      backward();
      const rows = Math.min(8, height - top);
      const columns = Math.min(8, width - left);
      for (let y = 0; y < rows; y++) {
        for (let x = 0; x < columns; x++) plane[(top + y) * width + left + x] = level(Math.round(values[8 * y + x] + 128));
      }
    }
  }
}

// Eight values of the block, from `at` in steps of `by`.
function forward(at, by) {
  const s0 = block[at] + block[at + 7 * by];
  const s1 = block[at + by] + block[at + 6 * by];
  const s2 = block[at + 2 * by] + block[at + 5 * by];
  const s3 = block[at + 3 * by] + block[at + 4 * by];
  const d0 = block[at] - block[at + 7 * by];
  const d1 = block[at + by] - block[at + 6 * by];
  const d2 = block[at + 2 * by] - block[at + 5 * by];
  const d3 = block[at + 3 * by] - block[at + 4 * by];
  const outer = s0 + s3;
  const inner = s1 + s2;
  const rest = s0 - s3;
  const turned = ((s1 - s2 + rest) * 181) >> 8;
  block[at] = outer + inner;
  block[at + 4 * by] = outer - inner;
  block[at + 2 * by] = rest + turned;
  block[at + 6 * by] = rest - turned;
  const low = d3 + d2;
  const high = d1 + d0;
  const shared = ((low - high) * 98) >> 8;
  const z2 = ((low * 139) >> 8) + shared;
  const z3 = ((d2 + d1) * 181) >> 8;
  const z4 = ((high * 334) >> 8) + shared;
  block[at + 5 * by] = d0 - z3 + z2;
  block[at + 3 * by] = d0 - z3 - z2;
  block[at + by] = d0 + z3 + z4;
  block[at + 7 * by] = d0 + z3 - z4;
}

// The inverse transform of the values, in place: rows that quantisation left empty stay so.
function backward() {
  half.fill(0);
  for (let v = 0; v < 64; v += 8) {
    for (let u = 0; u < 8; u++) {
      const value = values[v + u];
      if (value === 0) continue;
      for (let x = 0; x < 8; x++) half[v + x] += value * COSINES[8 * u + x];
    }
  }
  values.fill(0);
  for (let v = 0; v < 8; v++) {
    for (let y = 0; y < 8; y++) {
      const share = COSINES[8 * v + y];
      for (let x = 0; x < 8; x++) values[8 * y + x] += half[8 * v + x] * share;
    }
  }
}
