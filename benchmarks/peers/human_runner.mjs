// Faces and expressions of photographs by @vladmandic/human on WebAssembly: node human_runner.mjs MODULES LIST [whole]. LIST names a raw file of
// RGB pixels, its height and its width a line; the result is one JSON object a line, with the milliseconds of the photograph. With `whole` each
// photograph is one face.
import {readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {pathToFileURL} from 'node:url';

const [modules, list, whole] = process.argv.slice(2);
globalThis.fetch = async (url) => { // node's does not open files
  const content = readFileSync(new URL(url));
  return new Response(content, {headers: {'content-type': String(url).endsWith('.json') ? 'application/json' : 'application/octet-stream'}});
};
const {Human} = createRequire(import.meta.url)(`${modules}/@vladmandic/human/dist/human.node-wasm.js`);
const human = new Human({
  backend: 'wasm', debug: false, cacheSensitivity: 0, filter: {enabled: false}, wasmPath: `${modules}/@tensorflow/tfjs-backend-wasm/dist/`,
  modelBasePath: pathToFileURL(`${modules}/@vladmandic/human/models/`).href, warmup: 'none',
  face: {
    enabled: true, detector: {enabled: !whole, maxDetected: 10, rotation: false}, mesh: {enabled: !whole}, iris: {enabled: false}, description: {enabled: false},
    emotion: {enabled: true, minConfidence: 0}, antispoof: {enabled: false}, liveness: {enabled: false},
  },
  body: {enabled: false}, hand: {enabled: false}, gesture: {enabled: false}, object: {enabled: false},
});
await human.load();
for (const line of readFileSync(list, 'utf8').trim().split('\n')) {
  const [path, height, width] = line.split('\t');
  const pixels = new Uint8Array(readFileSync(path));
  const began = process.hrtime.bigint();
  const input = human.tf.tensor(pixels, [1, Number(height), Number(width), 3], 'float32');
  const {face: faces} = await human.detect(input);
  human.tf.dispose(input);
  const milliseconds = Number(process.hrtime.bigint() - began) / 1e6;
  const found = faces.map(({box, emotion}) => ({box, expression: emotion?.[0]?.emotion ?? null}));
  console.log(JSON.stringify({milliseconds, faces: found}));
}
