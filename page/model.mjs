// The model on crops: probabilities by label, valence and arousal, averaged over views of each face as affectnet/engines/onnx_engine.py does.

import {resized, roundEven} from './pixels.mjs';

const BATCH = 16; // views at a time
const LEAST_PROBABILITY = 1.17549435e-38; // the smallest of float32

export class Model {
  // run: (Uint8Array of crops, dims) → the file's outputs by name; metadata: of the model file.
  constructor(run, metadata) {
    Object.assign(this, {run, metadata});
  }

  // crops: as cropped() returns them; averaging: none, flip or ten_crop → {probabilities, valence, arousal} of each; valence and arousal
  // are null for a model without them.
  async predict(crops, averaging) {
    if (!crops.length) return [];
    const side = this.metadata.image_px;
    const faces = crops.map((crop) => resized(crop, side, side));
    const views = VIEWS[averaging](faces);
    const outputs = [];
    for (let first = 0; first < views.length; first += BATCH) outputs.push(...(await this.outputs(views.slice(first, first + BATCH))));
    return faces.map((_, face) => this.averaged(outputs.filter((output) => output.face === face)));
  }

  // The outputs of views of equal width and height, in one batch.
  async outputs(views) {
    const {width, height} = views[0].pixels;
    const batch = new Uint8Array(views.length * 3 * width * height);
    views.forEach(({pixels}, at) => batch.set(pixels.data, at * pixels.data.length));
    const {probabilities, valence_arousal: affect} = await this.run(batch, [views.length, height, width, 3]);
    const {length: count} = this.metadata.labels;
    return views.map(({face}, at) => ({
      face,
      logits: Array.from(probabilities?.subarray(at * count, (at + 1) * count) ?? [], (p) => Math.log(Math.max(p, LEAST_PROBABILITY))),
      affect: affect ? [...affect.subarray(2 * at, 2 * at + 2)] : [null, null],
    }));
  }

  averaged(views) {
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const logits = this.metadata.labels.map((_, at) => mean(views.map((view) => view.logits[at])));
    const [valence, arousal] = this.metadata.affect ? [0, 1].map((at) => mean(views.map((view) => view.affect[at]))) : [null, null];
    return {probabilities: softmax(logits), valence, arousal};
  }
}

export function softmax(logits) {
  const top = Math.max(...logits);
  const shares = logits.map((logit) => Math.exp(logit - top));
  const total = shares.reduce((sum, share) => sum + share, 0);
  return shares.map((share) => share / total);
}

const CROP_SHARE = 7 / 8; // as in affectnet/models/outputs.py

const VIEWS = {
  none: (faces) => faces.map((pixels, face) => ({face, pixels})),
  flip: (faces) => faces.flatMap((pixels, face) => [{face, pixels}, {face, pixels: flipped(pixels)}]),
  ten_crop: (faces) => faces.flatMap((pixels, face) => fiveParts(pixels).flatMap((part) => [{face, pixels: part}, {face, pixels: flipped(part)}])),
};

function flipped(pixels) {
  const {width, height, data: from} = pixels;
  const data = new Uint8Array(from.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [to, at] = [3 * (y * width + x), 3 * (y * width + width - 1 - x)];
      data[to] = from[at];
      data[to + 1] = from[at + 1];
      data[to + 2] = from[at + 2];
    }
  }
  return {width, height, data};
}

function fiveParts(pixels) {
  const {width, height} = pixels;
  const [wide, high] = [roundEven(CROP_SHARE * width), roundEven(CROP_SHARE * height)];
  const [right, bottom] = [width - wide, height - high];
  const corners = [[0, 0], [0, right], [bottom, 0], [bottom, right], [roundEven(bottom / 2), roundEven(right / 2)]];
  return corners.map(([top, left]) => {
    const data = new Uint8Array(3 * wide * high);
    for (let y = 0; y < high; y++) {
      const start = 3 * ((top + y) * width + left);
      data.set(pixels.data.subarray(start, start + 3 * wide), 3 * y * wide);
    }
    return {width: wide, height: high, data};
  });
}
