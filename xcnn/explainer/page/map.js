// Planes of numbers as pictures: one stop of the Tab key each, arrows, Home and End within, clicks, and words for who can't see.

const CIVIDIS = [
  [0, 32, 76], [0, 42, 102], [0, 52, 110], [39, 63, 108], [60, 74, 107], [76, 85, 107], [91, 95, 109], [104, 106, 112],
  [117, 117, 117], [131, 129, 120], [146, 140, 120], [161, 152, 118], [176, 165, 114], [192, 178, 109], [209, 191, 102],
  [225, 204, 92], [243, 219, 79], [255, 233, 69],
];
const DIVERGING = {
  light: { minus: [33, 102, 172], zero: [246, 246, 246], plus: [178, 60, 20] },
  dark: { minus: [96, 170, 240], zero: [44, 44, 48], plus: [250, 150, 90] },
};

/** Whether colours are for a dark page; paper is light. */
const isDark = () => !onPaper() && matchMedia("(prefers-color-scheme: dark)").matches;

const mixed = (a, b, share) => a.map((value, n) => Math.round(value + (b[n] - value) * share));

/** The colour of a number: cividis from 0 to `most` for pictures, else a diverging one around 0. */
function colourOf(value, most, palette) {
  const share = most > 0 ? Math.min(Math.abs(value) / most, 1) : 0;
  if (palette === "picture") {
    const at = (value > 0 ? share : 0) * (CIVIDIS.length - 1);
    const low = Math.min(Math.floor(at), CIVIDIS.length - 2);
    return mixed(CIVIDIS[low], CIVIDIS[low + 1], at - low);
  }
  const { minus, zero, plus } = DIVERGING[isDark() ? "dark" : "light"];
  return mixed(zero, value < 0 ? minus : plus, share);
}

/** The palette of what a layer is given: a picture's where nothing is below 0. */
const paletteOf = ({ cells }) => (cells.every((value) => value >= 0) ? "picture" : "signed");

/** Whether dark letters are read on this colour. */
const isLight = ([r, g, b]) => 0.299 * r + 0.587 * g + 0.114 * b > 140;

/** The most pixels of a canvas along an axis: browsers draw none that are much larger. */
const MOST_PIXELS = 8192;
/** Pixels that a row is high, and a column wide, at the least: of a signal there is one. */
const LEAST = 24;

/** The [width, height] of cells, in pixels: squares, unless the plane is a line, which would not be seen. */
function cellSize({ rows, columns }, room, limit = MOST_PIXELS) {
  const most = Math.max(rows, columns);
  const side = Math.min(Math.max(1, Math.min(56, Math.floor(room / most))), limit / most);
  const shrunk = Math.max(1, (most * side) / 600); // what the page makes smaller stays as high
  const least = (count) => Math.max(side, Math.floor((Math.min(LEAST, room) * shrunk) / count));
  return rows < columns ? [side, least(rows)] : [least(columns), side];
}

/** Paints a plane with cells of so many pixels, from a corner; where there is room, each cell's sign, or its number. */
function paint(context, { rows, columns, cells }, { palette, most = largest(cells), size: [wide, high], left = 0, top = 0 }) {
  const size = Math.min(wide, high);
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (let n = 0; n < cells.length; n++) {
    const [x, y] = [left + (n % columns) * wide, top + Math.floor(n / columns) * high];
    const colour = colourOf(cells[n], most, palette);
    context.fillStyle = `rgb(${colour})`;
    context.fillRect(x, y, wide, high);
    if (palette !== "picture" && size >= 10 && cells[n] !== 0) {
      context.fillStyle = isLight(colour) ? "#000" : "#fff";
      context.font = `${Math.min(size * 0.6, 14)}px system-ui, sans-serif`;
      const text = size >= 44 ? written(cells[n], 2) : cells[n] < 0 ? "−" : "+";
      context.fillText(text, x + wide / 2, y + high / 2, wide - 4);
    }
  }
}

/** Draws a frame around cells that reads on every colour. */
function frame(context, { row, column, rows = 1, columns = 1 }, [wide, high], dashed = false) {
  for (const [colour, width] of Math.min(wide, high) < 16 ? [["#000", 3], ["#fff", 1]] : [["#000", 4], ["#fff", 2]]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.setLineDash(dashed ? [5, 4] : []);
    context.strokeRect(column * wide + 1, row * high + 1, Math.max(columns * wide - 2, 1), rows * high - 2);
  }
  context.setLineDash([]);
}

/** Tells who listens to the page what was chosen. */
function announce(text) {
  document.getElementById("live").textContent = text;
}

class PlaneMap {
  /** @param options {label, palette: "picture" or "signed", onselect(row, column), onsplash(row, column)} */
  constructor({ label, palette = "signed", onselect, onsplash, width = 196 }) {
    Object.assign(this, { label, palette, onselect, onsplash, width });
    this.canvas = element("canvas", onselect
      ? { tabindex: 0, role: "application", onkeydown: (event) => this.key(event), onpointerdown: (event) => this.point(event) }
      : { role: "img" });
    this.caption = element("figcaption", {});
    this.root = element("figure", { class: "map" }, this.canvas, this.caption);
  }

  /** Shows a plane; `chosen` is [row, column], `frames` are rectangles, `name` says what a cell is. */
  show(plane, { chosen, frames = [], label = this.label, name, most, palette = this.palette } = {}) {
    this.plane = plane;
    this.chosen = chosen || [0, 0];
    this.label = label;
    const size = cellSize(plane, this.width);
    this.canvas.width = Math.ceil(plane.columns * size[0]);
    this.canvas.height = Math.ceil(plane.rows * size[1]);
    const context = this.canvas.getContext("2d");
    paint(context, plane, { palette, size, most });
    frames.forEach((each) => frame(context, each, size, each.dashed));
    if (chosen) frame(context, { row: chosen[0], column: chosen[1] }, size);
    const words = chosen ? this.words() : `${label}, ${plane.rows} by ${plane.columns}`;
    this.canvas.setAttribute("aria-label", words);
    const at = chosen && placeOf(chosen, [plane.rows, plane.columns]);
    this.caption.replaceChildren(unbroken(label), ...(chosen ? [element("br"), `[${chosen}] = `, name ? number(plane.cells[at], name(...chosen)) : written(plane.cells[at])] : []));
    return this.root;
  }

  words() {
    const [row, column] = this.chosen;
    return `${this.label}, row ${row}, column ${column}: ${written(cellAt(this.plane, row, column))}`;
  }

  select(row, column) {
    const limit = (value, count) => Math.min(Math.max(value, 0), count - 1);
    this.chosen = [limit(row, this.plane.rows), limit(column, this.plane.columns)];
    this.onselect(...this.chosen);
    announce(this.words());
  }

  key(event) {
    const [row, column] = this.chosen;
    const { rows, columns } = this.plane;
    const moves = {
      ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
      Home: [event.ctrlKey ? 0 : row, 0], End: [event.ctrlKey ? rows - 1 : row, columns - 1],
    };
    if (event.key === " " && this.onsplash) this.onsplash(row, column);
    else if (moves[event.key]) this.select(...moves[event.key]);
    else return;
    event.preventDefault();
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const along = (at, from, length, count) => Math.floor(((at - from) / length) * count);
    this.select(
      along(event.clientY, box.top, box.height, this.plane.rows),
      along(event.clientX, box.left, box.width, this.plane.columns),
    );
  }
}

/** Several planes side by side, as one picture that can only be looked at. */
function strip(planes, palette, label, height = 40) {
  const size = cellSize(planes[0], height, MOST_PIXELS / 32);
  const widths = planes.map((each) => Math.ceil(each.columns * size[0]) + 3);
  const canvas = element("canvas", { role: "img", "aria-label": label, width: total(widths) - 3, height: Math.ceil(planes[0].rows * size[1]) });
  const most = Math.max(...planes.map((each) => largest(each.cells)));
  let left = 0;
  planes.forEach((each, n) => {
    paint(canvas.getContext("2d"), each, { palette, most, size, left });
    left += widths[n];
  });
  return canvas;
}
