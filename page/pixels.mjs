// Images as {width, height, data}: 8-bit RGB in rows. Resizing gives the bytes that Pillow and OpenCV give in Python, so that the network
// gets the same crop (tests/page compare them).

const PRECISION = 22; // bits of Pillow's coefficients, src/libImaging/Resample.c
const HALF = 1 << (PRECISION - 1);

const box = (x) => (x > -0.5 && x <= 0.5 ? 1 : 0);
const triangle = (x) => Math.max(0, 1 - Math.abs(x));

function cubic(x, a = -0.5) {
  const at = Math.abs(x);
  if (at < 1) return ((a + 2) * at - (a + 3)) * at * at + 1;
  return at < 2 ? (((at - 5) * at + 8) * at - 4) * a : 0;
}

export const FILTERS = {
  box: {weight: box, support: 0.5},
  bilinear: {weight: triangle, support: 1},
  bicubic: {weight: cubic, support: 2},
};

export const image = (width, height) => ({width, height, data: new Uint8Array(3 * width * height)});

// The pixels of a canvas's ImageData; a photograph's transparent parts must be painted over before.
export function ofCanvas({width, height, data: rgba}) {
  const result = image(width, height);
  const {data} = result;
  for (let from = 0, to = 0; to < data.length; from += 4, to += 3) {
    data[to] = rgba[from];
    data[to + 1] = rgba[from + 1];
    data[to + 2] = rgba[from + 2];
  }
  return result;
}

// Python's round: halves to the even number.
export function roundEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return Math.round(value);
  return below % 2 ? below + 1 : below;
}

const clamp = (value) => (value < 0 ? 0 : value > 255 ? 255 : value);

// First input, count and whole-number weights of each output. end: where the inputs end, which may be a fraction.
function coefficients(length, end, size, {weight, support}) {
  const scale = end / size;
  const stretch = Math.max(1, scale);
  const reach = support * stretch;
  const starts = new Int32Array(size);
  const weights = [];
  for (let at = 0; at < size; at++) {
    const centre = (at + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const last = Math.min(length, Math.trunc(centre + reach + 0.5));
    const row = new Float64Array(Math.max(0, last - first));
    let total = 0;
    for (let k = 0; k < row.length; k++) total += row[k] = weight((k + first - centre + 0.5) / stretch);
    const whole = (one) => Math.trunc((total ? one / total : one) * 2 ** PRECISION + (one < 0 ? -0.5 : 0.5));
    starts[at] = first;
    weights.push(Int32Array.from(row, whole));
  }
  return {starts, weights};
}

function acrossRows(pixels, width, end, filter) {
  const {starts, weights} = coefficients(pixels.width, end, width, filter);
  const result = image(width, pixels.height);
  const {data: from} = pixels;
  const {data: to} = result;
  let out = 0;
  for (let y = 0; y < pixels.height; y++) {
    const line = 3 * y * pixels.width;
    for (let x = 0; x < width; x++, out += 3) {
      const row = weights[x];
      let at = line + 3 * starts[x];
      let red = HALF;
      let green = HALF;
      let blue = HALF;
      for (let k = 0; k < row.length; k++, at += 3) {
        red += from[at] * row[k];
        green += from[at + 1] * row[k];
        blue += from[at + 2] * row[k];
      }
      to[out] = clamp(red >> PRECISION);
      to[out + 1] = clamp(green >> PRECISION);
      to[out + 2] = clamp(blue >> PRECISION);
    }
  }
  return result;
}

function downColumns(pixels, height, end, filter) {
  const {starts, weights} = coefficients(pixels.height, end, height, filter);
  const result = image(pixels.width, height);
  const stride = 3 * pixels.width;
  const {data: from} = pixels;
  const {data: to} = result;
  const sums = new Int32Array(stride);
  for (let y = 0; y < height; y++) {
    const row = weights[y];
    sums.fill(HALF);
    for (let k = 0; k < row.length; k++) {
      const weight = row[k];
      const line = (starts[y] + k) * stride;
      for (let x = 0; x < stride; x++) sums[x] += from[line + x] * weight;
    }
    for (let x = 0, out = y * stride; x < stride; x++, out++) to[out] = clamp(sums[x] >> PRECISION);
  }
  return result;
}

// Pillow's Image.resize. gap: its reducing_gap, which averages over whole blocks first.
export function resized(pixels, width, height, filter = 'bicubic', gap = 0) {
  let [right, bottom] = [pixels.width, pixels.height];
  if (gap) {
    const across = Math.max(1, Math.trunc(right / width / gap));
    const down = Math.max(1, Math.trunc(bottom / height / gap));
    pixels = reduced(pixels, across, down);
    [right, bottom] = [right / across, bottom / down];
  }
  const kind = FILTERS[filter];
  if (width !== pixels.width || right !== pixels.width) pixels = acrossRows(pixels, width, right, kind);
  if (height !== pixels.height || bottom !== pixels.height) pixels = downColumns(pixels, height, bottom, kind);
  return pixels;
}

// The mean of each block of across × down px, the last ones narrower: Pillow's Image.reduce.
export function reduced(pixels, across, down = across) {
  if (across === 1 && down === 1) return pixels;
  const result = image(Math.ceil(pixels.width / across), Math.ceil(pixels.height / down));
  for (let y = 0; y < result.height; y++) {
    const [top, bottom] = [y * down, Math.min(pixels.height, (y + 1) * down)];
    for (let x = 0; x < result.width; x++) {
      const [left, right] = [x * across, Math.min(pixels.width, (x + 1) * across)];
      const count = (right - left) * (bottom - top);
      for (let channel = 0; channel < 3; channel++) {
        let sum = Math.trunc(count / 2);
        for (let row = top; row < bottom; row++) {
          for (let at = 3 * (row * pixels.width + left) + channel, k = left; k < right; k++, at += 3) sum += pixels.data[at];
        }
        result.data[3 * (y * result.width + x) + channel] = Math.trunc(sum / count);
      }
    }
  }
  return result;
}

// OpenCV's resize: INTER_AREA to shrink, INTER_CUBIC to enlarge.
export function resizedByOpencv(pixels, width, height) {
  if (width === pixels.width && height === pixels.height) return pixels;
  const smaller = width * height < pixels.width * pixels.height;
  const weights = smaller ? areaWeights : cubicWeights;
  const [columns, rows] = [weights(pixels.width, width), weights(pixels.height, height)];
  const wide = new Float64Array(3 * width * pixels.height);
  for (let y = 0; y < pixels.height; y++) {
    for (let x = 0; x < width; x++) {
      for (const [at, share] of columns[x]) {
        for (let c = 0; c < 3; c++) wide[3 * (y * width + x) + c] += share * pixels.data[3 * (y * pixels.width + at) + c];
      }
    }
  }
  const result = image(width, height);
  const line = new Float64Array(3 * width);
  for (let y = 0; y < height; y++) {
    line.fill(0);
    for (const [at, share] of rows[y]) {
      for (let x = 0; x < line.length; x++) line[x] += share * wide[at * line.length + x];
    }
    for (let x = 0; x < line.length; x++) result.data[y * line.length + x] = clamp(roundEven(line[x]));
  }
  return result;
}

// For each output the inputs under it, by the share that it covers.
function areaWeights(length, size) {
  const scale = length / size;
  return Array.from({length: size}, (_, at) => {
    const [start, end] = [at * scale, Math.min(length, (at + 1) * scale)];
    const shares = [];
    for (let input = Math.floor(start + 1e-6); input < end - 1e-6; input++) {
      shares.push([input, (Math.min(end, input + 1) - Math.max(start, input)) / (end - start)]);
    }
    return shares;
  });
}

function cubicWeights(length, size) {
  return Array.from({length: size}, (_, at) => {
    const centre = ((at + 0.5) * length) / size - 0.5;
    const first = Math.floor(centre);
    return [-1, 0, 1, 2].map((k) => [Math.min(length - 1, Math.max(0, first + k)), cubic(centre - first - k, -0.75)]);
  });
}
