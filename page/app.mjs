// The page: what its buttons do.

import {Host} from './host.mjs';
import {Live} from './live.mjs';
import {csv, csvName, download} from './save.mjs';
import {isFilm, openCamera, openClipboard, openPhotograph} from './source.mjs';
import {Smoother} from './track.mjs';
import {Choice, Panel, drawFrames, showFacts, summary} from './view.mjs';

const element = (id) => document.getElementById(id);
const [video, photograph, overlay, frame] = ['video', 'photograph', 'overlay', 'frame'].map(element);
const live = {kind: null, name: '', stream: null, address: null};

let host, model, settings, loop, panel;
let shown = {faces: [], whole: false};
let picture = null; // the analysed frame of the camera or film, with which its faces are drawn
let rows = [];
let chosen = null;
let smoother = new Smoother();
let turn = 0; // of what was opened; a late answer to an earlier one is dropped

const choice = new Choice(element('choice'), (number) => choose(number));

start();

async function start() {
  say('Loading …');
  try {
    host = await Host.open((share) => (element('speed').textContent = `${Math.round(100 * share)} %`));
  } catch (error) {
    return fail(`The page cannot start: ${error.message}`);
  }
  ({settings} = host);
  ({model} = settings);
  panel = new Panel(element('panel'), model);
  showFacts(element('facts'), settings.facts);
  element('card').hidden = !settings.card;
  loop = new Live(host, video, showFrame, (error) => fail(error.message));
  connect();
  element('speed').textContent = '';
  say('Ready.');
}

function connect() {
  element('file').addEventListener('change', ({target}) => {
    const [file] = target.files;
    target.value = '';
    if (file) open(file);
  });
  element('camera').addEventListener('click', () => (live.stream ? stop('The camera is off.') : attempt(startCamera)));
  element('paste').addEventListener('click', () => attempt(async () => open(await openClipboard())));
  element('example').addEventListener('click', () => open(host.example));
  element('freeze').addEventListener('click', () => (video.paused ? video.play() : video.pause()));
  element('smoothing').addEventListener('input', ({target}) => {
    element('smoothed').value = `${Number(target.value).toFixed(1)} s`;
  });
  element('csv').addEventListener('click', saveCsv);
  element('png').addEventListener('click', () => attempt(savePng));
  overlay.addEventListener('click', pick);
  for (const event of ['play', 'pause']) video.addEventListener(event, showFrozen);
  const position = element('position').querySelector('input');
  position.addEventListener('input', () => (video.currentTime = (position.value / 1000) * video.duration));
  video.addEventListener('timeupdate', () => (position.value = (1000 * video.currentTime) / (video.duration || 1)));
  video.addEventListener('seeking', () => live.kind === 'film' && restart());
  document.addEventListener('paste', ({clipboardData}) => clipboardData.files.length && open(clipboardData.files[0]));
  document.addEventListener('visibilitychange', () => document.hidden && hide());
  window.addEventListener('pagehide', () => live.stream && stop(''));
  new ResizeObserver(draw).observe(frame);
  connectDrop(element('drop'));
  for (const id of ['file', 'camera', 'paste', 'example']) element(id).disabled = false;
}

function connectDrop(area) {
  const over = (on) => area.classList.toggle('over', on);
  document.addEventListener('dragover', (event) => (event.preventDefault(), over(true)));
  document.addEventListener('dragleave', ({relatedTarget}) => relatedTarget ?? over(false));
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    over(false);
    const [file] = event.dataTransfer.files;
    if (file) open(file);
    else fail('Nothing was dropped that is a file; save the picture first');
  });
}

// One line above the picture, which stays until the next picture; and one below it.
function fail(text) {
  element('problem').textContent = text;
  element('problem').hidden = false;
  say('');
}

function say(text) {
  element('status').textContent = text;
}

async function attempt(action) {
  try {
    await action();
  } catch (error) {
    fail(error.message);
  }
}

function open(file) {
  clear();
  return attempt(isFilm(file) ? () => startFilm(file) : () => showPhotograph(file));
}

// Ends what runs, and empties the page.
function clear() {
  turn += 1;
  endVideo();
  if (live.address) URL.revokeObjectURL(live.address);
  Object.assign(live, {kind: null, name: '', address: null});
  video.removeAttribute('src');
  video.load();
  picture?.close();
  picture = null;
  for (const one of [video, photograph, frame, ...['problem', 'whole', 'position'].map(element)]) one.hidden = true;
  element('empty').hidden = false;
  for (const id of ['csv', 'png']) element(id).disabled = true;
  say('');
  restart();
  show([], false);
}

function restart() {
  rows = [];
  smoother = new Smoother();
  chosen = null;
  loop.restart();
}

// Ends the camera or film; what it showed stays.
function endVideo() {
  loop.stop();
  for (const track of live.stream?.getTracks() ?? []) track.stop();
  live.stream = null;
  video.srcObject = null;
  element('light').hidden = true;
  setButton('camera', false, 'Start the camera');
  setButton('freeze', false, 'Freeze');
  for (const id of ['freeze', 'smoothing']) element(id).disabled = true;
  element('speed').textContent = '';
}

// The camera's last picture and rows can be saved until something else is opened.
function stop(text) {
  if (picture) endVideo();
  else clear();
  say(text);
}

function hide() {
  if (live.stream) stop('The camera is off, since the page was hidden.');
  if (live.kind === 'film') video.pause();
}

function setButton(id, pressed, text) {
  element(id).setAttribute('aria-pressed', pressed);
  element(id).textContent = text;
}

// The element fills the width, up to 70 % of the window's height.
function setFrame(one, width, height) {
  frame.style.aspectRatio = `${width} / ${height}`;
  frame.style.width = `min(100%, ${((70 * width) / height).toFixed(2)}vh)`;
  frame.hidden = one.hidden = false;
  element('empty').hidden = true;
}

async function showPhotograph(file) {
  const mine = turn;
  say(`Reading ${file.name} …`);
  const {address, bitmap, width, height, jpeg, plain} = await openPhotograph(file, settings.limits);
  if (mine !== turn) return bitmap.close();
  Object.assign(live, {kind: 'photograph', name: file.name, address});
  photograph.src = address;
  photograph.alt = file.name;
  setFrame(photograph, width, height);
  const answer = await host.ask('photograph', {bitmap, jpeg, plain}, [bitmap]);
  if (mine !== turn) return;
  rows = answer.faces.map((face, at) => ({seconds: null, at, face, whole: answer.whole}));
  chosen = null;
  show(answer.faces, answer.whole);
  for (const id of ['csv', 'png']) element(id).disabled = false;
  const faces = answer.faces.map((face) => `${face.number} ${summary(face, model.labels)}`).join('; ');
  say(answer.whole ? `${file.name}: no face was detected.` : `${file.name}: ${counted(answer.faces.length)}: ${faces}.`);
}

const counted = (count) => (count === 1 ? '1 face' : `${count} faces`);

async function startCamera() {
  clear();
  const mine = turn;
  say('Waiting for the camera …');
  const stream = await openCamera();
  if (mine !== turn || document.hidden) return stream.getTracks().forEach((track) => track.stop());
  Object.assign(live, {kind: 'camera', name: 'camera', stream});
  stream.getVideoTracks()[0].addEventListener('ended', () => live.stream === stream && stop('The camera was switched off.'));
  video.srcObject = stream;
  await startVideo();
  element('light').hidden = false;
  setButton('camera', true, 'Stop the camera');
  say('The camera is on.');
}

async function startFilm(file) {
  say(`Opening ${file.name} …`);
  const mine = turn;
  Object.assign(live, {kind: 'film', name: file.name, address: URL.createObjectURL(file)});
  video.src = live.address;
  try {
    await startVideo();
  } catch {
    if (mine !== turn) return;
    clear();
    throw new Error(`${file.name}: no film that this browser can play; convert it to MP4 (H.264) or WebM`);
  }
  if (mine !== turn) return;
  element('position').hidden = !Number.isFinite(video.duration);
  say(`${file.name}: playing.`);
}

async function startVideo() {
  await video.play();
  if (!video.videoWidth) throw new Error('no picture');
  setFrame(video, video.videoWidth, video.videoHeight);
  for (const id of ['freeze', 'smoothing', 'csv', 'png']) element(id).disabled = false;
  loop.start();
}

function showFrozen() {
  if (live.stream || live.kind === 'film') setButton('freeze', video.paused, video.paused ? 'Go on' : 'Freeze');
}

// The answer for a frame.
function showFrame({faces, seconds, bitmap}) {
  picture?.close();
  picture = bitmap;
  const constant = Number(element('smoothing').value);
  const smooth = faces.map((face) => smoother.smooth(face.number, seconds, face, constant));
  rows.push(...smooth.map(({seen, ...face}, at) => ({seconds, at, face, whole: false, smoothing: constant})));
  show(smooth, false);
  const rate = loop.rate === null ? '' : `, ${loop.rate.toFixed(0)} frames a second`;
  element('speed').textContent = `${counted(faces.length)}${rate}`;
}

function show(faces, whole) {
  shown = {faces: [...faces].sort((one, other) => one.number - other.number), whole};
  if (!faces.some(({number}) => number === chosen)) chosen = shown.faces[0]?.number ?? null;
  element('whole').hidden = !whole;
  element('none').hidden = faces.length > 0;
  choice.update(shown.faces, model.labels, chosen, whole);
  panel.show(shown.faces.find(({number}) => number === chosen) ?? null, whole);
  draw();
}

function choose(number) {
  chosen = number;
  show(shown.faces, shown.whole);
}

function pictureSize() {
  const one = live.kind === 'photograph' ? [photograph.naturalWidth, photograph.naturalHeight] : [picture?.width, picture?.height];
  return one.map((side) => side || 1);
}

function draw() {
  const {width, height} = frame.getBoundingClientRect();
  if (!width || !settings) return;
  const scale = window.devicePixelRatio || 1;
  const size = {width: Math.round(width * scale), height: Math.round(height * scale)};
  if (overlay.width !== size.width || overlay.height !== size.height) Object.assign(overlay, size);
  const context = overlay.getContext('2d');
  context.clearRect(0, 0, overlay.width, overlay.height);
  if (picture) context.drawImage(picture, 0, 0, overlay.width, overlay.height);
  drawFrames(context, shown, {...settings, labels: model.labels}, overlay.width, pictureSize()[0], chosen);
  overlay.setAttribute('aria-label', shown.whole ? 'No face' : `${counted(shown.faces.length)} framed and numbered`);
}

// A click on the picture chooses the smallest face under it.
function pick({offsetX, offsetY}) {
  const scale = pictureSize()[0] / overlay.clientWidth;
  const [x, y] = [offsetX * scale, offsetY * scale];
  const under = shown.faces.filter(({box: [left, top, right, bottom]}) => x >= left && x <= right && y >= top && y <= bottom);
  under.sort((one, other) => one.box[2] - one.box[0] - other.box[2] + other.box[0]);
  if (under.length) choose(under[0].number);
}

function saveCsv() {
  const text = csv(live.name, rows, {labels: model.labels, detector: settings.detector}, live.kind !== 'photograph');
  download(new Blob([text], {type: 'text/csv'}), csvName(live.name, rows));
}

async function savePng() {
  const [width, height] = pictureSize();
  const canvas = Object.assign(document.createElement('canvas'), {width, height});
  const context = canvas.getContext('2d');
  context.drawImage(picture ?? photograph, 0, 0, width, height);
  drawFrames(context, shown, {...settings, labels: model.labels}, width, width, chosen);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));
  if (!blob) throw new Error(`${live.name}: ${width} × ${height} px are too many for this browser to save; take a screenshot`);
  download(blob, `${live.name}.faces.png`);
}
