// The frames of the camera or a film, analysed as fast as the worker can. Two are on their way at a time, so that it never waits.

const ON_THEIR_WAY = 2;

export class Live {
  // shown: gets each answer, with its seconds.
  constructor(host, video, shown, failed) {
    Object.assign(this, {host, video, shown, failed, run: 0, away: 0});
    video.addEventListener('pause', () => this.run && this.send(video.currentTime));
  }

  start() {
    this.run += 1;
    this.first = true;
    this.frames = [];
    this.wait(this.run);
  }

  stop() {
    this.run += 1;
  }

  // The next frame begins a film: faces are numbered from 1 again.
  restart() {
    this.first = true;
  }

  wait(run) {
    const next = (_, frame) => {
      if (run !== this.run) return;
      const seconds = frame?.mediaTime ?? this.video.currentTime;
      if (frame || seconds !== this.before) this.send(seconds);
      this.before = seconds;
      this.wait(run);
    };
    if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(next);
    else requestAnimationFrame(() => next());
  }

  async send(seconds) {
    if (this.away >= ON_THEIR_WAY || !this.video.videoWidth) return;
    const {run, first} = this;
    this.first = false;
    this.away += 1;
    const began = performance.now();
    try {
      const bitmap = await createImageBitmap(this.video);
      const captured = performance.now();
      const {times, ...answer} = await this.host.ask('frame', {bitmap, seconds, first}, [bitmap]);
      if (run !== this.run) return answer.bitmap.close();
      const answered = performance.now();
      this.shown({...answer, seconds});
      this.measure({capture: captured - began, ...times, draw: performance.now() - answered, frame: answered - began});
    } catch (error) {
      if (run === this.run) this.failed(error);
    } finally {
      this.away -= 1;
    }
  }

  // Milliseconds by part, for the browser's own tools and benchmarks/page.py.
  measure(times) {
    performance.clearMeasures();
    for (const [name, duration] of Object.entries(times)) performance.measure(name, {start: performance.now(), duration});
    const now = performance.now();
    this.frames = [...this.frames.filter((at) => now - at < 2000), now];
  }

  get rate() {
    const {frames} = this;
    return frames.length > 2 ? ((frames.length - 1) * 1000) / (frames.at(-1) - frames[0]) : null;
  }
}
