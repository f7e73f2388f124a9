// Runs a packed program on typed arrays, one image at a time. No library, no network.
//
// Layouts: real values Float32Array [row][column][channel]; bits Int32Array [row][column][word], 32 channels a word, the
// first in the lowest bit, bits beyond the channels 0. Sums are rounded to float32 as the scalar engine rounds them.
"use strict";

const float32 = Math.fround;

/** The tensors and the document of a packed file (safetensors, its document in the metadata). */
function readFile(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const kinds = { F32: Float32Array, I32: Int32Array, I8: Int8Array, U8: Uint8Array, F16: Uint16Array };
  const tensors = {};
  const { __metadata__: metadata, ...entries } = header;
  for (const [name, { dtype, shape, data_offsets: [begin, end] }] of Object.entries(entries)) {
    const raw = bytes.slice(8 + length + begin, 8 + length + end);
    const data = new kinds[dtype](raw.buffer);
    tensors[name] = { dtype, shape, data: dtype === "F16" ? Float32Array.from(data, halfToFloat) : data };
  }
  return { tensors, document: JSON.parse(metadata.biper) };
}

function halfToFloat(half) {
  const exponent = (half >> 10) & 31, fraction = half & 1023, sign = half >> 15 ? -1 : 1;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** A model: its description, and `run(pixels)`, from a Uint8Array [row][column][channel] to a Float32Array of outputs. */
function loadModel(bytes) {
  const { tensors, document: program } = readFile(bytes);
  const [channels, height, width] = program.input.shape;
  const real = new Map(), bits = new Map(), shapes = new Map();
  const image = new Float32Array(channels * height * width);
  real.set("image", image);
  shapes.set("image", [channels, height, width]);
  const steps = [];
  let binaryProducts = 0;
  program.operations.forEach((entry, index) => {
    const own = Object.fromEntries(entry.tensors.map((key) => [key, tensors[`${index}.${key}`]]));
    const attributes = { stride: [1, 1], dilation: [1, 1], groups: 1, ...entry.attributes };
    const op = { ...entry, attributes, tensors: own, in: shapes.get(entry.inputs[0]) };
    op.shape = shapeOf(op, entry.inputs.map((name) => shapes.get(name)));
    const size = op.shape[0] * op.shape[1] * op.shape[2];
    if (entry.real) real.set(entry.real, new Float32Array(size));
    if (entry.bits) bits.set(entry.bits, new Int32Array(Math.ceil(op.shape[0] / 32) * op.shape[1] * op.shape[2]));
    for (const name of [entry.real, entry.bits]) if (name) shapes.set(name, op.shape);
    const finish = epilogueOf(op, real, bits);
    if (op.operation === "binary_convolution") {
      const [, rows, columns] = own.weight.shape;
      binaryProducts += size * rows * columns * (op.in[0] / attributes.groups);
      steps.push(binaryConvolution(op, bits.get(entry.inputs[0]), finish));
    } else {
      const inputs = entry.inputs.map((name) => ({ data: real.get(name), shape: shapes.get(name) }));
      steps.push(KERNELS[op.operation](op, inputs, finish));
    }
  });
  const multiplier = program.input.std.map((std) => float32(1 / float32(255 * float32(std))));
  const offset = program.input.std.map((std, i) => float32(float32(program.input.mean[i]) / float32(std)));
  const [outChannels, outHeight, outWidth] = shapes.get(program.output);
  const classes = program.classes.length ? program.classes : Array.from({ length: outChannels }, (_, i) => String(i));
  return {
    channels, height, width, classes, binaryProducts, outputShape: [outHeight, outWidth, outChannels],
    run(pixels) {
      for (let i = 0; i < image.length; ++i) {
        const channel = i % channels;
        image[i] = float32(pixels[i] * multiplier[channel]) - offset[channel];
      }
      for (const step of steps) step();
      return real.get(program.output).slice();
    },
  };
}

function shapeOf(op, inputs) {
  const a = op.attributes, [channels, height, width] = inputs[0];
  switch (op.operation) {
    case "convolution":
    case "binary_convolution": {
      const shape = op.tensors.weight.shape, [rows, columns] = kernelOf(op);
      const [top, bottom, left, right] = a.padding;
      const along = (size, pad, taps, step, dilation) => Math.floor((size + pad - dilation * (taps - 1) - 1) / step) + 1;
      return [
        shape[0],
        along(height, top + bottom, rows, a.stride[0], a.dilation[0]),
        along(width, left + right, columns, a.stride[1], a.dilation[1]),
      ];
    }
    case "pool": return [channels, ...a.size];
    case "pad_channels": return [a.before + channels + a.after, height, width];
    case "concatenate": return [inputs.reduce((sum, shape) => sum + shape[0], 0), height, width];
    case "resize": return [channels, a.height, a.width];
    case "flatten": return [channels * height * width, 1, 1];
  }
  return inputs[0];
}

function kernelOf(op) {
  const { dtype, shape } = op.tensors.weight;
  return dtype === "U8" ? [shape[1], shape[2]] : [shape[2], shape[3]];
}

/** What happens to a sum: `finish(pixel, channel, sum)`. Channels of a pixel come in order; the first clears its bits. */
function epilogueOf(op, reals, allBits) {
  const data = (key) => (op.tensors[key] ? op.tensors[key].data : null);
  const multiplier = data("multiplier"), offset = data("offset"), slope = data("slope");
  const threshold = data("threshold"), flip = data("flip");
  const out = op.real ? reals.get(op.real) : null, bits = op.bits ? allBits.get(op.bits) : null;
  const residual = op.residual ? reals.get(op.residual) : null;
  const channels = op.shape[0], words = (channels + 31) >> 5, kind = op.attributes.activation;
  const low = float32(op.attributes.low), high = float32(op.attributes.high);
  return (pixel, channel, sum) => {
    let positive;
    if (threshold) {
      positive = sum >= threshold[channel] !== (flip[channel] === 1);
    } else {
      const at = pixel * channels + channel;
      let y = float32(sum);
      if (multiplier) y = float32(y * multiplier[channel]);
      if (offset) y = float32(y + offset[channel]);
      if (residual) y = float32(y + residual[at]);
      if (kind === "clip") y = y < low ? low : y > high ? high : y;
      else if (kind === "relu") y = y < 0 ? 0 : y;
      else if (kind === "prelu" && y < 0) y = float32(y * slope[channel]);
      if (out) out[at] = y;
      positive = y >= 0;
    }
    if (!bits) return;
    const word = pixel * words + (channel >> 5), bit = positive ? 1 << (channel & 31) : 0;
    bits[word] = channel & 31 ? bits[word] | bit : bit;
  };
}

/** Taps [first, last) of a kernel of which tap t reads position start + t * dilation, for positions in [0, size). */
function tapsInside(start, dilation, taps, size) {
  let first = 0, last = taps;
  while (first < taps && start + first * dilation < 0) ++first;
  while (last > first && start + (last - 1) * dilation >= size) --last;
  return [first, last];
}

/** The geometry of a window operation: calls `body` for each pixel of the result with the taps inside the image. */
function eachWindow(op, kernel, padding, dilation, body) {
  const [, height, width] = op.in, [, outHeight, outWidth] = op.shape, [down, across] = op.attributes.stride;
  const columns = Array.from({ length: outWidth }, (_, i) => tapsInside(i * across - padding[1], dilation[1], kernel[1], width));
  for (let row = 0, pixel = 0; row < outHeight; ++row) {
    const top = row * down - padding[0], [y0, y1] = tapsInside(top, dilation[0], kernel[0], height);
    for (let column = 0; column < outWidth; ++column, ++pixel)
      body(pixel, top, y0, y1, column * across - padding[1], columns[column][0], columns[column][1]);
  }
}

/** Bits of weights (O, kh, kw, bytes) as words [O][kh][kw][word]; `shift` moves the channels of output channel o up. */
function weightWords(weight, words, shift = () => 0) {
  const [out, rows, columns, bytes] = weight.shape, taps = rows * columns;
  const packed = new Int32Array(out * taps * words);
  for (let o = 0; o < out; ++o)
    for (let tap = 0; tap < taps; ++tap)
      for (let byte = 0; byte < bytes; ++byte)
        for (let bit = 0; bit < 8; ++bit)
          if ((weight.data[(o * taps + tap) * bytes + byte] >> bit) & 1) {
            const channel = byte * 8 + bit + shift(o);
            packed[(o * taps + tap) * words + (channel >> 5)] |= 1 << (channel & 31);
          }
  return packed;
}

// Counting the bits of words: in every nibble, then in every byte, then all of them.
function nibbles(x) {
  x -= (x >>> 1) & 0x55555555;
  return (x & 0x33333333) + ((x >>> 2) & 0x33333333);
}
function inBytes(x) {
  return (x & 0x0f0f0f0f) + ((x >>> 4) & 0x0f0f0f0f);
}
function total(x) {
  x = (x & 0x00ff00ff) + ((x >>> 8) & 0x00ff00ff);
  return (x + (x >>> 16)) & 0xffff;
}

/**
 * In how many bits the words of x differ from as many of w from `at` on. Full adders turn nine words into four, whose
 * bits count one, two, four and four; the rest goes one at a time.
 */
function differing(x, w, at) {
  let sum = 0, i = 0;
  for (; i + 9 <= x.length; i += 9, at += 9) {
    const a = x[i] ^ w[at], b = x[i + 1] ^ w[at + 1], c = x[i + 2] ^ w[at + 2], ab = a ^ b;
    const d = x[i + 3] ^ w[at + 3], e = x[i + 4] ^ w[at + 4], f = x[i + 5] ^ w[at + 5], de = d ^ e;
    const g = x[i + 6] ^ w[at + 6], h = x[i + 7] ^ w[at + 7], k = x[i + 8] ^ w[at + 8], gh = g ^ h;
    const one1 = ab ^ c, one2 = de ^ f, one3 = gh ^ k, ones12 = one1 ^ one2;
    const two1 = (a & b) | (ab & c), two2 = (d & e) | (de & f), two3 = (g & h) | (gh & k), twos12 = two1 ^ two2;
    const two4 = (one1 & one2) | (ones12 & one3), twos = twos12 ^ two3;
    const fours = inBytes(nibbles((two1 & two2) | (twos12 & two3))) + inBytes(nibbles(twos & two4));
    sum += total(inBytes(nibbles(ones12 ^ one3) + 2 * nibbles(twos ^ two4)) + 4 * fours);
  }
  for (; i < x.length; ++i, ++at) sum += total(inBytes(nibbles(x[i] ^ w[at])));
  return sum;
}

/**
 * The words of a pixel's window are gathered once for all output channels, those of taps outside the image as zeros; there
 * the bits that are 1 in a weight are taken for differing, and their known number is left out again.
 */
function binaryConvolution(op, x, finish) {
  const { padding, dilation, groups } = op.attributes, [channels, , width] = op.in, [out] = op.shape;
  if (groups > 1) return groupedBinaryConvolution(op, x, finish);
  const [rows, columns] = kernelOf(op), words = (channels + 31) >> 5, size = rows * columns * words;
  const weight = weightWords(op.tensors.weight, words), window = new Int32Array(size), outside = new Map();
  const countOutside = (y0, y1, x0, x1) => Int32Array.from({ length: out }, (_, channel) => {
    let sum = 0;
    for (let i = 0; i < size; ++i) {
      const tap = Math.floor(i / words), ky = Math.floor(tap / columns), kx = tap % columns;
      const inside = ky >= y0 && ky < y1 && kx >= x0 && kx < x1;
      if (!inside) sum += total(inBytes(nibbles(weight[channel * size + i])));
    }
    return sum;
  });
  return () => eachWindow(op, [rows, columns], [padding[0], padding[2]], dilation, (pixel, top, y0, y1, left, x0, x1) => {
    const place = ((y0 * (rows + 1) + y1) * (columns + 1) + x0) * (columns + 1) + x1;
    if (!outside.has(place)) outside.set(place, countOutside(y0, y1, x0, x1));
    const known = outside.get(place), valid = (y1 - y0) * (x1 - x0) * channels;
    let at = 0;
    for (let ky = 0; ky < rows; ++ky)
      for (let kx = 0; kx < columns; ++kx) {
        const inside = ky >= y0 && ky < y1 && kx >= x0 && kx < x1;
        const from = ((top + ky * dilation[0]) * width + left + kx * dilation[1]) * words;
        for (let word = 0; word < words; ++word) window[at++] = inside ? x[from + word] : 0;
      }
    for (let channel = 0; channel < out; ++channel)
      finish(pixel, channel, valid - 2 * (differing(window, weight, channel * size) - known[channel]));
  });
}

function groupedBinaryConvolution(op, x, finish) {
  const { padding, dilation, groups } = op.attributes, [channels, , width] = op.in, [out] = op.shape;
  const [rows, columns] = kernelOf(op), words = (channels + 31) >> 5, inside = channels / groups, outside = out / groups;
  const first = (o) => Math.floor(o / outside) * inside;
  const weight = weightWords(op.tensors.weight, words, first);
  const mask = new Int32Array(groups * words);
  for (let channel = 0; channel < channels; ++channel)
    mask[Math.floor(channel / inside) * words + (channel >> 5)] |= 1 << (channel & 31);
  return () => eachWindow(op, [rows, columns], [padding[0], padding[2]], dilation, (pixel, top, y0, y1, left, x0, x1) => {
    const valid = (y1 - y0) * (x1 - x0) * inside;
    for (let channel = 0; channel < out; ++channel) {
      const group = Math.floor(channel / outside) * words, begin = first(channel) >> 5;
      const end = (first(channel) + inside + 31) >> 5;
      let sum = 0;
      for (let ky = y0; ky < y1; ++ky)
        for (let kx = x0; kx < x1; ++kx) {
          const from = ((top + ky * dilation[0]) * width + left + kx * dilation[1]) * words;
          const w = ((channel * rows + ky) * columns + kx) * words;
          for (let i = begin; i < end; ++i) sum += total(inBytes(nibbles((x[from + i] & mask[group + i]) ^ weight[w + i])));
        }
      finish(pixel, channel, valid - 2 * sum);
    }
  });
}

/** Real weights [O][kh][kw][I / groups] of a convolution, however they are stored. */
function realWeights(op) {
  const { dtype, shape, data } = op.tensors.weight, [rows, columns] = kernelOf(op);
  const inside = op.in[0] / op.attributes.groups, taps = rows * columns;
  const ordered = new Float32Array(shape[0] * taps * inside);
  for (let o = 0; o < shape[0]; ++o)
    for (let tap = 0; tap < taps; ++tap)
      for (let c = 0; c < inside; ++c)
        ordered[(o * taps + tap) * inside + c] = dtype === "U8"
          ? 2 * ((data[(o * taps + tap) * shape[3] + (c >> 3)] >> (c & 7)) & 1) - 1
          : data[(o * inside + c) * taps + tap];
  return ordered;
}

/** round(x), halves to even. */
function rounded(x) {
  const floor = Math.floor(x), rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

function convolution(op, [{ data: x }], finish) {
  const { padding, dilation, groups, input_factor: factor, input_zero: zero } = op.attributes;
  const [channels, , width] = op.in, [out] = op.shape, [rows, columns] = kernelOf(op);
  const inside = channels / groups, outside = out / groups, weight = realWeights(op);
  const levels = factor === undefined ? null : new Float32Array(x.length);
  const read = levels || x, exact = float32(factor);
  return () => {
    if (levels)
      for (let i = 0; i < x.length; ++i) levels[i] = rounded(Math.min(Math.max(float32(x[i] * exact), -zero), 255 - zero));
    eachWindow(op, [rows, columns], [padding[0], padding[2]], dilation, (pixel, top, y0, y1, left, x0, x1) => {
      for (let channel = 0; channel < out; ++channel) {
        const first = Math.floor(channel / outside) * inside;
        let sum = 0;
        for (let ky = y0; ky < y1; ++ky)
          for (let kx = x0; kx < x1; ++kx) {
            const from = ((top + ky * dilation[0]) * width + left + kx * dilation[1]) * channels + first;
            const w = ((channel * rows + ky) * columns + kx) * inside;
            if (levels) for (let c = 0; c < inside; ++c) sum += read[from + c] * weight[w + c];
            else for (let c = 0; c < inside; ++c) sum = float32(sum + float32(read[from + c] * weight[w + c]));
          }
        finish(pixel, channel, sum);
      }
    });
  };
}

function pool(op, [{ data: x }], finish) {
  const { kernel, stride, padding, kind, count_padding: countPadding } = op.attributes, [channels, height, width] = op.in;
  return () => eachWindow(op, kernel, padding, [1, 1], (pixel, top, y0, y1, left, x0, x1) => {
    let count = (y1 - y0) * (x1 - x0);
    if (countPadding)
      count = (Math.min(top + kernel[0], height + padding[0]) - top) * (Math.min(left + kernel[1], width + padding[1]) - left);
    for (let channel = 0; channel < channels; ++channel) {
      let y = kind === "max" ? -Infinity : 0;
      for (let ky = y0; ky < y1; ++ky)
        for (let kx = x0; kx < x1; ++kx) {
          const value = x[((top + ky) * width + left + kx) * channels + channel];
          y = kind === "max" ? Math.max(y, value) : float32(y + value);
        }
      finish(pixel, channel, kind === "max" ? y : float32(y / count));
    }
  });
}

/** Values at the nearest rows and columns, other channels of the result 0. */
function copy(op, inputs, finish) {
  const [out, height, width] = op.shape, before = op.attributes.before || 0;
  return () => {
    for (let row = 0, pixel = 0; row < height; ++row)
      for (let column = 0; column < width; ++column, ++pixel) {
        let channel = 0;
        for (; channel < before; ++channel) finish(pixel, channel, 0);
        for (const { data, shape: [channels, rows, columns] } of inputs) {
          const from = (Math.floor((row * rows) / height) * columns + Math.floor((column * columns) / width)) * channels;
          for (let c = 0; c < channels; ++c) finish(pixel, channel++, data[from + c]);
        }
        for (; channel < out; ++channel) finish(pixel, channel, 0);
      }
  };
}

function flatten(op, [{ data, shape: [channels, height, width] }], finish) {
  return () => {
    for (let channel = 0, at = 0; channel < channels; ++channel)
      for (let pixel = 0; pixel < height * width; ++pixel, ++at) finish(0, at, data[pixel * channels + channel]);
  };
}

const KERNELS = {
  convolution, pool, flatten, elementwise: copy, pad_channels: copy, concatenate: copy, resize: copy,
};
