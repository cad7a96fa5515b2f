// Where pictures come from: files, the clipboard, the camera.

const HEADER_BYTES = 1 << 20; // of a JPEG, read to see whether it is a plain one
const VIDEO = /\.(mp4|m4v|mov|webm|mkv|avi|ogv|mpe?g|3gp|wmv)$/i;

export const isFilm = (file) => file.type.startsWith('video/') || (!file.type && VIDEO.test(file.name));

// A photograph: its address, width, height, whether it is a JPEG, and a plain one, and its bitmap. Errors: Error with one line that names the file.
export async function openPhotograph(file, {photograph_bytes: mostBytes, photograph_px: mostPixels}) {
  const named = (text) => new Error(`${file.name}: ${text}`);
  if (file.size > mostBytes) throw named(`more than ${mostBytes / 2 ** 20} MiB; choose a photograph`);
  const start = new Uint8Array(await file.slice(0, HEADER_BYTES).arrayBuffer());
  const unreadable = 'no photograph or film that this browser can read; choose another file, such as a JPEG, PNG, WebP or MP4';
  if (file.type === 'image/svg+xml' || start[0] === 0x3c) throw named(unreadable);
  const address = URL.createObjectURL(file);
  try {
    const image = await loaded(address);
    const {naturalWidth: width, naturalHeight: height} = image; // known before the pixels are decoded
    if (width * height > mostPixels) {
      throw named(`${width.toLocaleString('en')} × ${height.toLocaleString('en')} px, more than ${mostPixels / 1e6} million px; make it smaller`);
    }
    if (!width) throw named(unreadable);
    const bitmap = await createImageBitmap(file, {colorSpaceConversion: 'none'});
    return {address, bitmap, width: bitmap.width, height: bitmap.height, jpeg: isJpeg(start), plain: isPlainJpeg(start)};
  } catch (error) {
    URL.revokeObjectURL(address);
    throw error instanceof Error && error.message.startsWith(`${file.name}: `) ? error : named(unreadable);
  }
}

const isJpeg = (start) => start[0] === 0xff && start[1] === 0xd8;

// Whether the file is a JPEG of one photograph in colour or grey that EXIF does not rotate. start: its first bytes.
export function isPlainJpeg(start) {
  if (!isJpeg(start)) return false;
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength);
  const text = (at) => String.fromCharCode(...start.subarray(at, at + 4));
  for (let at = 2; at + 10 <= start.length && start[at] === 0xff; ) {
    const kind = start[at + 1];
    if (kind === 0xda) return true;
    if (kind === 0xff) at += 1;
    else {
      const end = at + 2 + view.getUint16(at + 2);
      if (kind === 0xe1 && text(at + 4) === 'Exif' && orientation(view, at + 10, Math.min(end, start.length)) !== 1) return false;
      if (kind === 0xe2 && text(at + 4) === 'MPF\0') return false;
      if (FRAMES.has(kind) && ![1, 3].includes(start[at + 9])) return false;
      at = end;
    }
  }
  return false;
}

// The markers of a JPEG's frames, whose tenth byte counts the colours.
const FRAMES = new Set([0xc0, 0xc1, 0xc2, 0xc3, 0xc5, 0xc6, 0xc7, 0xc9, 0xca, 0xcb, 0xcd, 0xce, 0xcf]);

// Of EXIF data from `at` to `end`; 1 for upright, null where they are broken.
function orientation(view, at, end) {
  if (at + 8 > end) return null;
  const little = view.getUint16(at) === 0x4949;
  const table = at + view.getUint32(at + 4, little);
  if (table + 2 > end) return null;
  const first = table + 2;
  const last = first + 12 * view.getUint16(table, little);
  if (last > end) return null;
  for (let entry = first; entry < last; entry += 12) {
    if (view.getUint16(entry, little) === 0x0112) return view.getUint16(entry + 8, little);
  }
  return 1;
}

function loaded(address) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error('unreadable'));
    image.src = address;
  });
}

// The camera's stream. Errors: Error with one line.
export async function openCamera() {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error('Camera: this browser offers none to this page; open it from https:// or from localhost');
  }
  try {
    return await navigator.mediaDevices.getUserMedia({video: {width: {ideal: 640}, height: {ideal: 480}, facingMode: 'user'}, audio: false});
  } catch (error) {
    throw new Error(`Camera: ${REASONS[error.name] ?? `cannot be opened (${error.name})`}`);
  }
}

const REASONS = {
  NotAllowedError: 'not allowed; allow it for this page in the browser’s settings, or open a photograph',
  NotFoundError: 'this device has none; open a photograph or a film',
  NotReadableError: 'in use by another program; close that, or open a photograph',
};

// The first picture in the clipboard as a file. Errors: Error with one line.
export async function openClipboard() {
  if (!navigator.clipboard?.read) throw new Error('Clipboard: press Ctrl+V, or ⌘V on a Mac; this browser has no button for it');
  let items;
  try {
    items = await navigator.clipboard.read();
  } catch {
    throw new Error('Clipboard: not allowed; press Ctrl+V, or ⌘V on a Mac');
  }
  for (const item of items) {
    const type = item.types.find((one) => one.startsWith('image/'));
    if (type) return new File([await item.getType(type)], 'pasted', {type});
  }
  throw new Error('Clipboard: no picture in it; copy one first');
}
