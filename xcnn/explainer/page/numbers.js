// Arrays as the page keeps them: their cells in a Float64Array, the last axis running fastest, and their shape beside it.

/** The number of cells of a shape. */
const cellsOf = (shape) => shape.reduce((product, size) => product * size, 1);

/** The array of an entry of the page's data: little-endian numbers, in base64. */
function decoded({ type, shape, data }) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const kinds = { int32: Int32Array, float32: Float32Array, float64: Float64Array };
  return { shape, cells: Float64Array.from(new kinds[type](bytes.buffer)) };
}

/** How far along the cells one step on each axis leads. */
function stepsOf(shape) {
  const steps = shape.map(() => 1);
  for (let axis = shape.length - 2; axis >= 0; axis--) steps[axis] = steps[axis + 1] * shape[axis + 1];
  return steps;
}

/** For each cell of the shape, its place in an array that has these axes of it alone. */
function placesOver(shape, axes) {
  const kept = stepsOf(axes.map((axis) => shape[axis]));
  const steps = stepsOf(shape);
  return Int32Array.from({ length: cellsOf(shape) }, (_, cell) =>
    axes.reduce((at, axis, n) => at + (Math.floor(cell / steps[axis]) % shape[axis]) * kept[n], 0),
  );
}

/** The indices of a cell: (channel, row, column) of an image's. */
function indicesOf(cell, shape) {
  return stepsOf(shape).map((step, axis) => Math.floor(cell / step) % shape[axis]);
}

/** The place of the cell with these indices. */
function placeOf(indices, shape) {
  const steps = stepsOf(shape);
  return indices.reduce((at, index, axis) => at + index * steps[axis], 0);
}

const dot = (a, b) => a.reduce((sum, value, n) => sum + value * b[n], 0);
const total = (cells) => cells.reduce((sum, value) => sum + value, 0);
/** The root of the sum of squares, of huge cells too. */
function norm(cells) {
  const most = largest(cells);
  return most > 0 ? most * Math.sqrt(cells.reduce((sum, value) => sum + (value / most) ** 2, 0)) : 0;
}

const largest = (cells) => cells.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

/** The place of the cell that is largest, by its size or by `measure`. */
function placeOfLargest(cells, measure = Math.abs) {
  let best = 0;
  for (let n = 1; n < cells.length; n++) if (measure(cells[n]) > measure(cells[best])) best = n;
  return best;
}

/** A number in so many significant digits, as short as it reads well; the minus sign is a real one. */
function written(value, digits = 4) {
  if (!Number.isFinite(value)) return String(value);
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size < 1e-4 || size >= 1e6 ? size.toExponential(digits - 1) : shortened(size.toPrecision(digits));
  return (value < 0 ? "−" : "") + text;
}

/** Without zeros at the end of its fraction. */
const shortened = (text) => (text.includes(".") && !text.includes("e") ? text.replace(/\.?0+$/, "") : text);
