/* One video of tiles, of which a canvas shows two: wiped, beside each other, or their difference. */
const MOST = 960;  // pixels across to which small pictures are enlarged, by a whole factor

class Player {
  constructor(data, size, rate, changed) {
    this.data = data;
    [this.width, this.height] = size;
    this.rate = rate;
    this.changed = changed;
    this.frame = 0;
    this.left = 0;
    this.right = 1;
    this.view = "wipe";
    this.wipe = 0.5;
    this.canvas = document.getElementById("picture");
    this.video = document.createElement("video");
    this.video.muted = true;
    this.video.playsInline = true;
    this.video.preload = "auto";
    const bytes = Uint8Array.from(atob(data.video), c => c.charCodeAt(0));
    this.video.src = URL.createObjectURL(new Blob([bytes], {type: "video/mp4"}));
    this.video.addEventListener("loadeddata", () => this.seek(this.frame));
    this.watch();
    this.video.addEventListener("seeked", () => this.arrived());
    this.video.addEventListener("ended", () => {
      this.frame = this.data.frames - 1;
      this.draw();
      this.changed();
    });
    this.video.addEventListener("error", () => {
      console.error("the video of " + data.name + " cannot be played", this.video.error);
    });
  }

  close() {
    this.video.pause();
    URL.revokeObjectURL(this.video.src);
    this.closed = true;
  }

  /* Go to the middle of a frame's time, so that rounding cannot show its neighbour. */
  seek(frame) {
    this.video.pause();
    this.frame = Math.max(0, Math.min(this.data.frames - 1, frame));
    const time = (this.frame + 0.5) / this.rate;
    if (this.video.seeking) this.pending = time;
    else this.video.currentTime = time;
    this.changed();
  }

  arrived() {
    if (this.pending !== undefined) {
      this.video.currentTime = this.pending;
      this.pending = undefined;
      return;
    }
    this.draw();
    this.changed();
  }

  get playing() {
    return !this.video.paused && !this.video.ended;
  }

  toggle() {
    if (this.playing) {
      this.seek(this.frame);
      return;
    }
    if (this.frame >= this.data.frames - 1) this.video.currentTime = 0;
    this.video.play().then(() => {
      if (!this.video.requestVideoFrameCallback) this.follow();
    }).catch(error => {
      if (error.name !== "AbortError") console.error(error);
    });
  }

  /* Draw each frame when it can be seen: "seeked" may come while the one before still is. */
  watch() {
    if (this.closed || !this.video.requestVideoFrameCallback) return;
    this.video.requestVideoFrameCallback((now, {mediaTime}) => {
      this.presented = Math.round(mediaTime * this.rate);
      if (this.playing) this.frame = Math.min(this.data.frames - 1, this.presented);
      this.draw();
      this.changed();
      this.watch();
    });
  }

  /* The same while it plays, where browsers do not tell of frames. */
  follow() {
    if (!this.playing || this.closed) return;
    requestAnimationFrame(() => {
      this.frame = Math.min(this.data.frames - 1, Math.floor(this.video.currentTime * this.rate));
      this.draw();
      this.changed();
      this.follow();
    });
  }

  show(settings) {
    Object.assign(this, settings);
    this.draw();
    this.changed();
  }

  /* Draw `share` of a tile, from `from` of its width on, to the place it has in the picture. */
  tile(context, index, at, from, to) {
    const [tileWidth, tileHeight] = this.data.tile;
    const column = index % this.data.columns, row = Math.floor(index / this.data.columns);
    const start = Math.round(from * this.width), width = Math.round(to * this.width) - start;
    if (width <= 0) return;
    context.drawImage(this.video, column * tileWidth + start, row * tileHeight, width, this.height,
      at + start, 0, width, this.height);
  }

  draw() {
    if (this.closed || this.video.readyState < 2) return;
    const beside = this.view === "beside";
    const width = beside ? 2 * this.width : this.width;
    if (this.canvas.width !== width || this.canvas.height !== this.height) {
      this.canvas.width = width;
      this.canvas.height = this.height;
    }
    const enlarged = Math.max(1, Math.min(4, Math.floor(MOST / width)));
    this.canvas.style.width = `${enlarged * width}px`;
    const context = this.canvas.getContext("2d");
    context.globalCompositeOperation = "source-over";
    if (beside) {
      this.tile(context, this.left, 0, 0, 1);
      this.tile(context, this.right, this.width, 0, 1);
    } else if (this.view === "difference") {
      this.tile(context, this.left, 0, 0, 1);
      context.globalCompositeOperation = "difference";
      this.tile(context, this.right, 0, 0, 1);
      context.globalCompositeOperation = "lighter";
      for (let doubled = 1; doubled < 8; doubled *= 2) context.drawImage(this.canvas, 0, 0);
    } else {
      this.tile(context, this.left, 0, 0, this.wipe);
      this.tile(context, this.right, 0, this.wipe, 1);
      context.fillStyle = "#fff";
      context.fillRect(Math.round(this.wipe * this.width) - 1, 0, 1, this.height);
    }
  }
}
