// Faces in a photograph by YuNet: affectnet/images/yunet.py and detection.py, whose constants come in settings.json.

import {resized, roundEven} from './pixels.mjs';

export class Detector {
  // run: (Float32Array, dims) → the network's outputs by name; side: px of an input of fixed side, null for any;
  // constants: of yunet.py, in lower case.
  constructor(run, side, constants) {
    Object.assign(this, {run, side, constants});
  }

  // How many times smaller a photograph is when it is searched; smallest: side of the smallest face as a share of its shorter side.
  scale({width, height}, smallest) {
    const {searched_px: searched, enlarged_px: enlarged} = this.constants;
    return Math.min(Math.max(1, (smallest * Math.min(width, height)) / searched), Math.max(width, height) / enlarged);
  }

  // [left, top, right, bottom] of each face, clipped to the photograph, in tenths of a px, the largest first.
  async detect(pixels, smallest, jpeg = false) {
    const {width, height} = pixels;
    const scored = await this.search(jpeg ? this.decoded(pixels, smallest) : pixels, smallest);
    const tenth = (value) => roundEven(10 * value) / 10;
    return scored
      .map(([left, top, right, bottom]) => [Math.max(0, left), Math.max(0, top), Math.min(width, right), Math.min(height, bottom)])
      .filter((edges) => edges.every(Number.isFinite) && edges[2] - edges[0] >= 1 && edges[3] - edges[1] >= 1)
      .map((edges) => edges.map(tenth))
      .sort((one, other) => area(other) - area(one));
  }

  // A JPEG as Python decodes it: no larger than it is searched. across, down: from its px to those of the photograph.
  decoded(pixels, smallest) {
    const scale = this.scale(pixels, smallest);
    const factor = [8, 4, 2, 1].find((one) => one <= Math.max(1, scale));
    if (factor === 1) return pixels;
    const [width, height] = [Math.ceil(pixels.width / factor), Math.ceil(pixels.height / factor)];
    const small = resized(pixels, width, height, 'box');
    return {...small, across: pixels.width / width, down: pixels.height / height};
  }

  async search(pixels, smallest) {
    const {width, height, across: outerX = 1, down: outerY = 1} = pixels;
    const boxes = [];
    for (const [smaller, across, down] of this.scales(pixels, smallest)) {
      for (const [left, top, right, bottom, score] of await this.searchTiles(smaller)) {
        boxes.push([left * across, top * down, right * across, bottom * down, score]);
      }
    }
    const least = Math.max(this.constants.smallest_px, smallest * Math.min(width, height)) ** 2;
    return this.withoutOverlapping(boxes)
      .filter((edges) => area(edges) >= least)
      .map(([left, top, right, bottom]) => [left * outerX, top * outerY, right * outerX, bottom * outerY]);
  }

  // The photograph as it is searched, then halves of it, each with the factors from its px to those of the photograph.
  *scales(pixels, smallest) {
    const {width, height} = pixels;
    let small = smaller(pixels, this.scale(pixels, smallest));
    for (;;) {
      yield [small, width / small.width, height / small.height];
      if (Math.max(small.width, small.height) <= this.constants.coarsest_px) return;
      small = smaller(small, 2);
    }
  }

  async searchTiles(pixels) {
    const tile = this.side ?? this.constants.tile_px;
    const boxes = [];
    for (const top of this.starts(pixels.height, tile)) {
      for (const left of this.starts(pixels.width, tile)) {
        for (const one of await this.inTile(pixels, left, top, tile)) {
          boxes.push([one[0] + left, one[1] + top, one[2] + left, one[3] + top, one[4]]);
        }
      }
    }
    return boxes;
  }

  // Where tiles begin that cover the length, with the overlap.
  starts(length, tile) {
    const count = 1 + Math.max(0, Math.ceil((length - tile) / (tile - this.constants.tile_overlap_px)));
    return Array.from({length: count}, (_, number) => (count > 1 ? roundEven((number * (length - tile)) / (count - 1)) : 0));
  }

  async inTile(pixels, left, top, tile) {
    const [width, height] = [Math.min(tile, pixels.width - left), Math.min(tile, pixels.height - top)];
    const coarsest = this.constants.strides.at(-1);
    const across = this.side ?? Math.ceil(width / coarsest) * coarsest;
    const down = this.side ?? Math.ceil(height / coarsest) * coarsest;
    const input = new Float32Array(3 * across * down);
    const [green, red] = [across * down, 2 * across * down]; // blue first
    for (let y = 0; y < height; y++) {
      let from = 3 * ((top + y) * pixels.width + left);
      for (let to = y * across; to < y * across + width; to++, from += 3) {
        input[red + to] = pixels.data[from];
        input[green + to] = pixels.data[from + 1];
        input[to] = pixels.data[from + 2];
      }
    }
    const outputs = await this.run(input, [1, 3, down, across]);
    const boxes = this.constants.strides.flatMap((stride) => this.decode(outputs, stride, across));
    return boxes.sort((one, other) => other[4] - one[4]).slice(0, this.constants.most_boxes);
  }

  // The boxes of one grid, with their scores.
  decode(outputs, stride, across) {
    const [classes, objects, offsets] = ['cls', 'obj', 'bbox'].map((kind) => outputs[`${kind}_${stride}`]);
    const {score: least, most_growth: most} = this.constants;
    const columns = across / stride;
    const unit = (value) => Math.min(1, Math.max(0, value));
    const half = (value) => (Math.exp(Math.min(most, Math.max(-most, value))) * stride) / 2;
    const boxes = [];
    for (let cell = 0; cell < classes.length; cell++) {
      const score = Math.fround(Math.sqrt(unit(classes[cell]) * unit(objects[cell])));
      if (score < least) continue;
      const [row, column] = [Math.floor(cell / columns), cell % columns];
      const [x, y] = [(column + offsets[4 * cell]) * stride, (row + offsets[4 * cell + 1]) * stride];
      const [w, h] = [half(offsets[4 * cell + 2]), half(offsets[4 * cell + 3])];
      boxes.push([x - w, y - h, x + w, y + h, score]);
    }
    return boxes;
  }

  // The boxes, the best first, without those that overlap a better one.
  withoutOverlapping(boxes) {
    const {overlap, contained} = this.constants;
    const kept = [];
    for (const one of [...boxes].sort((a, b) => b[4] - a[4])) {
      const apart = kept.every((best) => {
        const shared = common(best, one);
        return shared <= overlap * (area(best) + area(one) - shared) && shared <= contained * Math.min(area(best), area(one));
      });
      if (apart) kept.push(one);
    }
    return kept;
  }
}

export const area = ([left, top, right, bottom]) => (right - left) * (bottom - top);

// Px that two boxes share.
export function common(one, other) {
  const width = Math.min(one[2], other[2]) - Math.max(one[0], other[0]);
  const height = Math.min(one[3], other[3]) - Math.max(one[1], other[1]);
  return Math.max(0, width) * Math.max(0, height);
}

function smaller(pixels, scale) {
  if (scale === 1) return pixels;
  const [width, height] = [pixels.width, pixels.height].map((side) => Math.max(1, roundEven(side / scale)));
  return resized(pixels, width, height, 'bilinear', 2);
}
