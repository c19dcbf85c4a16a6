// What a layer's arrays do in its correlation: one is read beneath a kernel, one is made of that; one is sent by stamps, and kept where they add up.
//
// A transposed convolution is the way back of a correlation, taken forward: forward and backward change places, and X with ∂E/∂Y.

const SYMBOLS = { x: "X", y: "Y", dx: "∂E/∂X", dy: "∂E/∂Y" };

/** What is done with the products of a window. */
function summing({ share, symbols, role, node }) {
  const parts = ["add", ...(share > 1 ? [`do the same with all ${share} ${symbols.j}s`] : []), ...(role === FORWARD && node.weights.bias ? ["add the bias"] : [])];
  return parts.length > 1 ? `${parts.slice(0, -1).join(", ")}, and ${parts.at(-1)}` : `and ${parts[0]}`;
}

const FORWARD = {
  names: { read: "x", made: "y", sent: "dy", kept: "dx" },
  symbols: { place: "Y", cell: "X", i: "filter", j: "channel" },
  titles: {
    rotation: "1 · Why is the kernel rotated on the way back?", window: "2 · What is one output made of?",
    geometry: "3 · Valid, same, full; stride, padding, dilation",
  },
  asks: (m, n) => `Of all windows that have the cell X[${m}, ${n}] in them, the one that begins furthest up and to the left: which cell of K lies on X[${m}, ${n}] there?`,
  meets: (m, n, { i, j }, count) => `X[${m}, ${n}] of channel ${j} has a part in ${count === 1 ? "1 output" : `${count} outputs`} of filter ${i}. Its gradient from them, in three ways:`,
  stamps: (p, q, value, kernel) => [`Y[${p}, ${q}] read the window in the frame with the weights ${kernel}. So ∂E/∂Y[${p}, ${q}] = `, value,
    ` goes back to the same window with the same weights: it stamps ${kernel} there. All stamps add up.`],
  collects: (m, n) => `Stand on X[${m}, ${n}] and collect. The output that began furthest up and left`,
  shares: (count, { j }) => `Channel ${j} is read by ${count} filters, and collects from all of them:`,
  lays: (p, q, view) => `Lay ${view.symbols.kernel} on the frame in X, multiply what lies on each other, ${summing(view)}. What is Y[${p}, ${q}] of filter ${view.i}?`,
  weighs: (a, b) => `K[${a}, ${b}] was multiplied with every cell in the frame in X, once for each output. What is ∂E/∂K[${a}, ${b}], the sum of those cells times their outputs' gradients?`,
  slides: "the gradient has become the kernel that slides over X",
  sizes: ({ size, output, padding: [[top, bottom]], stride }, extent) => [output[0],
    `X has ${size[0]} rows; rows of zeros: ${top} above and ${bottom} below; the kernel reaches over ${extent}, and goes ${stride[0]} at a time. How many rows has Y?`],
  size: (size, output, [lo, hi], stride, extent) => `⌊(${size} + ${lo} + ${hi} − ${extent}) / ${stride}⌋ + 1 = ${output}`,
  framed: (p, q) => `X with its padding, the window of Y[${p}, ${q}] and the next one`,
  around: "zeros around X, and the size of Y",
};

/** Rows that a transposed convolution has beyond those that stamps reach: its output_padding, or what "same" adds. */
const moreRows = (size, count, [lo, hi], stride, extent) => size - ((count - 1) * stride + extent - lo - hi);

const BACK = {
  names: { read: "dy", made: "dx", sent: "x", kept: "y" },
  symbols: { place: "X", cell: "Y", i: "channel", j: "filter" },
  titles: {
    rotation: "1 · A convolution's way back, taken forward: where is the kernel rotated?", window: "2 · What is one cell of ∂E/∂X made of?",
    geometry: "3 · The sizes: stride spreads, padding takes away",
  },
  asks: (m, n) => `Of all cells of X whose stamps of K fall on Y[${m}, ${n}], the one furthest up and to the left: which cell of K does it bring there?`,
  meets: (m, n, { i, j }, count) => `Y[${m}, ${n}] of filter ${j} is reached by ${count === 1 ? "1 cell" : `${count} cells`} of channel ${i} of X. What they bring, in three ways:`,
  stamps: (p, q, value, kernel) => [`X[${p}, ${q}] = `, value, ` stamps ${kernel}, times itself, into the frame in Y. All stamps add up.`],
  collects: (m, n) => `Stand on Y[${m}, ${n}] and collect. The cell of X whose stamp began furthest up and left`,
  shares: (count, { j }, bias) => `Filter ${j} collects from ${count === 1 ? "1 channel" : `${count} channels`}${bias ? ", and adds its bias" : ""}:`,
  lays: (p, q, view) => `On the way back it is a correlation: lay K on the frame in ∂E/∂Y, multiply what lies on each other, ${summing(view)}. What is ∂E/∂X[${p}, ${q}] of channel ${view.i}?`,
  weighs: (a, b) => `K[${a}, ${b}] brought every cell of X to a cell in the frame in ∂E/∂Y. What is ∂E/∂K[${a}, ${b}], the sum of the gradients there times those cells of X?`,
  slides: "X has become the kernel that slides over ∂E/∂Y",
  sizes({ size: [rows], output: [count], padding: [[top, bottom]], stride: [stride] }, extent) {
    const more = moreRows(rows, count, [top, bottom], stride, extent);
    return [rows, `X has ${count} rows, which come ${stride} apart; each stamp reaches over ${extent}; rows that are taken away: ${top} above and ${bottom} below; ${more ? `rows that are added below: ${more}` : "none is added"}. How many rows has Y?`];
  },
  size(size, output, [lo, hi], stride, extent) {
    const extra = moreRows(size, output, [lo, hi], stride, extent);
    return `(${output} − 1) · ${stride} + ${extent} − ${lo} − ${hi}${extra ? ` + ${extra}` : ""} = ${size}`;
  },
  framed: (p, q) => `Y with what is taken away around it: where X[${p}, ${q}] is stamped, and the next one`,
  around: "cells that are taken away around Y, and its size",
};

/** The layers that are shown in full, by their operation. */
const ROLES = { correlate: FORWARD, standardised_correlate: FORWARD, transpose: BACK };

/** The symbols of a layer's four arrays, and of the kernel that it uses. */
function symbolsOf({ op }) {
  const { names, symbols } = ROLES[op];
  const arrays = Object.fromEntries(Object.entries(names).map(([role, name]) => [role, SYMBOLS[name]]));
  return { ...arrays, ...symbols, kernel: op === "standardised_correlate" ? "K̂" : "K" };
}

/** Where the bias stands in the equation of the chosen cell of Y: its place, its words; undefined without one. */
function biasOf({ node, g, i, j }, { element, cell }) {
  const { bias } = node.weights;
  if (!bias) return undefined;
  const back = ROLES[node.op] === BACK;
  const [filter, filters, at, [rows, columns]] = back ? [j, g.channels, cell, g.size] : [i, g.filters, element, g.output];
  const tied = bias.cells.length === filters;
  const place = tied ? filter : (filter * rows + at[0]) * columns + at[1];
  return { tied, at, place, value: bias.cells[place], outputs: `${rows} × ${columns}`, words: tied ? `bias of filter ${filter}` : "bias of this output" };
}
