// The worker: detector and network, away from the page's own thread. It is started from a blob, so that it inherits the page's content
// security policy, and gets every byte by message.

import {cropped, mapped} from './crop.mjs';
import {Detector} from './detect.mjs';
import {Model} from './model.mjs';
import {ofCanvas} from './pixels.mjs';
import {Tracker, look} from './track.mjs';

const MOST_PX = 640; // longer side of an analysed frame

let settings, detector, model, canvas, context, tracker;

const answers = {open, photograph, frame};

self.onmessage = async ({data: {id, kind, content}}) => {
  try {
    const result = await answers[kind](content);
    self.postMessage({id, result}, result?.bitmap ? [result.bitmap] : []);
  } catch (error) {
    self.postMessage({id, problem: String(error?.message ?? error)});
  }
};

async function open({runtime, wasm, threads, files, ...rest}) {
  settings = rest.settings;
  const ort = await import(runtime);
  Object.assign(ort.env.wasm, {wasmBinary: wasm, numThreads: threads});
  ort.env.logLevel = 'error';
  const session = async (file) => ort.InferenceSession.create(file, {executionProviders: ['wasm'], graphOptimizationLevel: 'all'});
  const [faces, network] = [await session(files.detector), await session(files.model)];
  const run = (one, kind) => async (data, dims) => {
    const outputs = await one.run({[one.inputNames[0]]: new ort.Tensor(kind, data, dims)});
    return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, tensor.data]));
  };
  detector = new Detector(run(faces, 'float32'), fixedSide(faces), settings.yunet);
  model = new Model(run(network, 'uint8'), settings.model);
  canvas = new OffscreenCanvas(1, 1);
  context = canvas.getContext('2d', {willReadFrequently: true});
}

function fixedSide(session) {
  const side = session.inputMetadata[0].shape[2];
  return typeof side === 'number' && side > 0 ? side : null;
}

// The bitmap's pixels on white, as Python reads a transparent photograph. scale: by which it is made smaller.
function read(bitmap, scale = 1) {
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
  context.fillStyle = 'white';
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  return ofCanvas(context.getImageData(0, 0, width, height));
}

// The faces, the largest first, as `affectnet predict` numbers them; where there are none, the whole photograph as if it were one.
async function photograph({bitmap, jpeg, plain}) {
  const pixels = read(bitmap);
  bitmap.close();
  Object.assign(canvas, {width: 1, height: 1}); // a photograph takes four bytes a px
  const boxes = await detector.detect(pixels, settings.smallest, jpeg);
  const crops = (boxes.length ? boxes : [null]).map((box) => crop(pixels, box, {jpeg, plain}));
  const faces = await predicted(boxes.length ? boxes : [[0, 0, pixels.width, pixels.height]], crops, settings.averaging);
  return {faces: faces.map((face, at) => ({...face, number: at + 1})), whole: !boxes.length};
}

// The face in a detected box, null for the whole photograph. options: of cropped().
function crop(pixels, box, options) {
  const {box_maps: maps, crop: policy} = settings.model;
  return cropped(pixels, box && mapped(box, maps[settings.detector]), policy, options);
}

async function predicted(boxes, crops, averaging) {
  const answer = await model.predict(crops, averaging);
  return answer.map((face, at) => ({...face, box: boxes[at], seen: crops[at]}));
}

// The faces of the next frame with the numbers that they keep, the milliseconds of each part, and the frame itself, which goes back.
// first: of a camera or film.
async function frame({bitmap, seconds, first}) {
  if (first || !tracker) tracker = new Tracker(settings.tracks);
  const follower = tracker; // the first frame of the next film may come while this one waits
  const times = [performance.now()];
  const scale = Math.min(1, MOST_PX / Math.max(bitmap.width, bitmap.height));
  const pixels = read(bitmap, scale);
  times.push(performance.now());
  const boxes = await detector.detect(pixels, settings.live_smallest);
  const numbers = follower.follow(seconds, look(pixels, settings.tracks), boxes);
  times.push(performance.now());
  const crops = boxes.map((box) => crop(pixels, box, {grey: settings.model.grey}));
  const faces = await predicted(boxes, crops, 'none'); // frames are averaged over time
  times.push(performance.now());
  const [readMs, detectMs, networkMs] = [1, 2, 3].map((at) => times[at] - times[at - 1]);
  const across = bitmap.width / pixels.width;
  const numbered = faces.map((face, at) => ({...face, box: face.box.map((edge) => edge * across), number: numbers[at]}));
  return {faces: numbered, bitmap, times: {read: readMs, detect: detectMs, network: networkMs}};
}
