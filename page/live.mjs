// The frames of the camera or a film, analysed as fast as the worker can. Two are on their way at a time, so that it never waits.

const ON_THEIR_WAY = 2;
const SETTLED_MS = 100; // after a move, until the shown frame's time is known

export class Live {
  // shown: gets each answer, with its seconds.
  constructor(host, video, shown, failed) {
    // film: counts the moves; at, sent: seconds of the frame that is shown, and of the last one that was sent
    Object.assign(this, {host, video, shown, failed, run: 0, film: 0, away: 0, at: null, sent: null});
    video.addEventListener('pause', () => this.sendFrozen());
    video.addEventListener('seeked', () => setTimeout(() => this.sendFrozen(), SETTLED_MS));
  }

  start() {
    this.run += 1;
    this.restart();
    this.frames = [];
    this.wait(this.run);
  }

  stop() {
    this.run += 1;
    this.restart();
  }

  // The next frame begins a film: faces are numbered from 1 again, and answers to earlier frames are dropped.
  restart() {
    Object.assign(this, {film: this.film + 1, first: true, at: null, sent: null});
  }

  wait(run) {
    const next = (_, frame) => {
      if (run !== this.run) return;
      const seconds = frame?.mediaTime ?? this.video.currentTime;
      this.at = seconds;
      if (seconds !== this.sent && !this.video.seeking) this.send(seconds); // until the film has moved, it shows the old place
      this.wait(run);
    };
    if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(next);
    else requestAnimationFrame(() => next());
  }

  // The frame at which the video stands, unless it is sent already.
  sendFrozen() {
    const {video, at, sent} = this;
    if (video.paused && !video.seeking && at !== null && at !== sent) this.send(at);
  }

  async send(seconds) {
    if (this.away >= ON_THEIR_WAY || !this.video.videoWidth) return;
    const {film, first} = this;
    Object.assign(this, {first: false, sent: seconds});
    this.away += 1;
    const began = performance.now();
    try {
      const bitmap = await createImageBitmap(this.video);
      if (film !== this.film) return bitmap.close();
      const captured = performance.now();
      const {times, ...answer} = await this.host.ask('frame', {bitmap, seconds, first}, [bitmap]);
      if (film !== this.film) return answer.bitmap.close();
      const answered = performance.now();
      this.shown({...answer, seconds});
      this.measure({capture: captured - began, ...times, draw: performance.now() - answered, frame: answered - began});
    } catch (error) {
      if (film === this.film) this.failed(error);
    } finally {
      this.away -= 1;
      this.sendFrozen();
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
