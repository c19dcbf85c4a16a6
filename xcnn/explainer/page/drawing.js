// A digit that is drawn here, made as MNIST's are: 20 pixels high or wide, and its centre of mass in the middle of 28.

const PAPER = 280;
const [SIDE, BOX] = [28, 20];

class Drawing {
  constructor(state) {
    this.state = state;
    this.pen = [PAPER / 2, PAPER / 2];
    this.canvas = element("canvas", { width: PAPER, height: PAPER, tabindex: 0, role: "application", class: "paper",
      "aria-label": "paper: draw by pointer, or move the pen by the arrow keys and draw while Shift is held; a single dot by the space bar",
      onpointerdown: (event) => this.down(event), onpointermove: (event) => this.drawn && this.line(this.at(event)),
      onpointerup: () => this.up(), onpointercancel: () => this.up(), onkeydown: (event) => this.key(event) });
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.clear();
    this.root = element("section", { id: "drawing", "aria-labelledby": "drawing-title" },
      element("h2", { id: "drawing-title" }, "Draw a digit"),
      paragraph("It becomes the net's picture as MNIST's digits were made: cut out, scaled to 20 pixels, and centred by its mass in 28. The 28 × 28 pixels are shown above."),
      element("div", { class: "row" }, this.canvas, button("Clear", () => this.clear())));
  }

  clear() {
    this.context.fillStyle = "#000";
    this.context.fillRect(0, 0, PAPER, PAPER);
    Object.assign(this.context, { strokeStyle: "#fff", lineWidth: 22, lineCap: "round", lineJoin: "round" });
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * PAPER, ((event.clientY - box.top) / box.height) * PAPER];
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pen = this.at(event);
    this.drawn = true;
    this.line(this.pen);
  }

  up() {
    this.drawn = false;
    this.take();
  }

  line(to) {
    this.context.beginPath();
    this.context.moveTo(...this.pen);
    this.context.lineTo(to[0] + 0.01, to[1]);
    this.context.stroke();
    this.pen = to;
  }

  key(event) {
    const moves = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0], " ": [0, 0] };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    const to = this.pen.map((value, axis) => Math.min(Math.max(value + move[axis] * (PAPER / SIDE), 0), PAPER));
    if (event.shiftKey || event.key === " ") {
      this.line(to);
      this.take();
    } else {
      this.pen = to;
    }
    announce(`pen at ${this.pen.map((value) => Math.round((value * SIDE) / PAPER)).join(", ")}`);
  }

  /** Makes what was drawn the net's picture. */
  take() {
    const ink = this.ink();
    if (!ink) return;
    this.state.network.x.set(centred(ink).cells);
    this.state.compute();
    this.state.chooseLayer(this.state.path); // what was worth a look in the old picture may be 0 in this one
    this.state.changed();
  }

  /** What was drawn, cut out and scaled so that its longer side is 20 pixels; null of empty paper. */
  ink() {
    const { data } = this.context.getImageData(0, 0, PAPER, PAPER);
    const [xs, ys] = [[], []];
    for (let n = 0; n < PAPER * PAPER; n++)
      if (data[4 * n] > 25) {
        xs.push(n % PAPER);
        ys.push(Math.floor(n / PAPER));
      }
    if (!xs.length) return null;
    const ends = (values) => values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [PAPER, 0]);
    const [[left, right], [top, bottom]] = [ends(xs), ends(ys)];
    const [width, height] = [right - left + 1, bottom - top + 1];
    const scale = BOX / Math.max(width, height);
    const small = element("canvas", { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) });
    const context = small.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(this.canvas, left, top, width, height, 0, 0, small.width, small.height);
    const pixels = context.getImageData(0, 0, small.width, small.height).data;
    return plane(small.height, small.width, Float64Array.from({ length: small.width * small.height }, (_, n) => pixels[4 * n] / 255));
  }
}

/** A plane of at most 20 by 20 in 28 by 28, its centre of mass in the middle. */
function centred(ink) {
  const mass = total(ink.cells);
  const mean = [0, 0];
  ink.cells.forEach((value, n) => {
    mean[0] += (value * Math.floor(n / ink.columns)) / mass;
    mean[1] += (value * (n % ink.columns)) / mass;
  });
  const corner = [ink.rows, ink.columns].map((size, axis) => Math.min(Math.max(Math.round(SIDE / 2 - mean[axis]), 0), SIDE - size));
  return padded(ink, [0, 1].map((axis) => [corner[axis], SIDE - corner[axis] - [ink.rows, ink.columns][axis]]));
}
