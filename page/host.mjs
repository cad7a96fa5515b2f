// Loads the page's files, closes the network behind them, and talks to the worker.

const FILES = [
  'settings.json', 'detector.onnx', 'model.onnx', 'example.jpg', 'runtime/ort.wasm.bundle.min.mjs', 'runtime/ort-wasm-simd-threaded.wasm.gz',
];

export class Host {
  // progress: gets the share of the bytes that are there.
  static async open(progress) {
    const [settings, detector, model, example, runtime, wasm] = await fetched(progress);
    const host = new Host();
    host.settings = JSON.parse(new TextDecoder().decode(settings));
    if (model.byteLength !== host.settings.model_bytes) throw new Error('model.onnx is not the file that settings.json describes');
    host.example = new File([example], 'example.jpg', {type: 'image/jpeg'});
    closeNetwork();
    host.start();
    host.threads = self.crossOriginIsolated ? Math.max(1, Math.min(4, (navigator.hardwareConcurrency || 1) - 1)) : 1; // one core is the page's
    const content = {
      settings: host.settings,
      runtime: address(runtime, 'text/javascript'),
      wasm: await unpacked(wasm),
      threads: host.threads,
      files: {detector: new Uint8Array(detector), model: new Uint8Array(model)},
    };
    await host.ask('open', content, [content.wasm]);
    return host;
  }

  // The worker's script is a blob that imports worker.mjs: a worker from an address would not inherit the policy of the page.
  start() {
    const script = `import ${JSON.stringify(new URL('worker.mjs', import.meta.url).href)};`;
    this.worker = new Worker(address(script, 'text/javascript'), {type: 'module'});
    this.waiting = new Map();
    this.last = 0;
    this.worker.onmessage = ({data: {id, result, problem}}) => {
      const {resolve, reject} = this.waiting.get(id);
      this.waiting.delete(id);
      if (problem === undefined) resolve(result);
      else reject(new Error(problem));
    };
    this.worker.onerror = (event) => {
      for (const {reject} of this.waiting.values()) reject(new Error(event.message || 'the worker cannot be started'));
      this.waiting.clear();
    };
  }

  // transfer: what moves to the worker instead of being copied.
  ask(kind, content, transfer = []) {
    return new Promise((resolve, reject) => {
      const id = ++this.last;
      this.waiting.set(id, {resolve, reject});
      this.worker.postMessage({id, kind, content}, transfer);
    });
  }
}

const address = (content, type) => URL.createObjectURL(new Blob([content], {type}));

async function fetched(progress) {
  const loaded = new Map();
  const totals = new Map();
  const sum = (values) => [...values].reduce((all, one) => all + one, 0);
  return Promise.all(
    FILES.map(async (name) => {
      const response = await fetch(new URL(name, import.meta.url));
      if (!response.ok) throw new Error(`${name}: the server says ${response.status} ${response.statusText}`);
      totals.set(name, Number(response.headers.get('content-length')) || 0);
      const parts = [];
      for await (const part of chunks(response.body)) {
        parts.push(part);
        loaded.set(name, (loaded.get(name) ?? 0) + part.length);
        if (totals.size === FILES.length) progress(Math.min(1, sum(loaded.values()) / sum(totals.values())));
      }
      return new Blob(parts).arrayBuffer();
    }),
  );
}

async function* chunks(stream) {
  const reader = stream.getReader();
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    yield value;
  }
}

// Some servers unpack a .gz file on the way.
async function unpacked(bytes) {
  const start = new Uint8Array(bytes, 0, 2);
  if (start[0] !== 0x1f || start[1] !== 0x8b) return bytes;
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer();
}

// From here on the page, and the workers that it starts, can open no connection: a policy that is added only makes stricter.
function closeNetwork() {
  const policy = document.createElement('meta');
  policy.httpEquiv = 'Content-Security-Policy';
  policy.content = "connect-src 'none'; img-src blob:";
  document.head.append(policy);
}
