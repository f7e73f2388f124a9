// The operators of a packed program. Each takes an operation, its inputs and the function `finish` of engine.js, and
// returns a function that computes it. Sums are rounded to float32 in the order of the scalar engine, so results are the
// same bits.
"use strict";

/** Taps [first, last) of a kernel of which tap t reads position start + t * dilation, for positions in [0, size). */
function tapsInside(start, dilation, taps, size) {
  let first = 0, last = taps;
  while (first < taps && start + first * dilation < 0) ++first;
  while (last > first && start + (last - 1) * dilation >= size) --last;
  return [first, last];
}

/** Calls `body` for each pixel of a window operation's result, with the taps of its window that are inside the image. */
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
 * The words of a pixel's window are gathered once for all output channels. The words of taps outside the image are 0:
 * there every weight bit that is 1 counts as differing, and `known`, the number of these bits, is subtracted again.
 */
function binaryConvolution(op, inputs, finish) {
  const { padding, dilation, groups } = op.attributes, [channels, , width] = op.in, [out] = op.shape;
  if (groups > 1) return groupedBinaryConvolution(op, inputs, finish);
  const [{ data: x }] = inputs;
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

function groupedBinaryConvolution(op, [{ data: x }], finish) {
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

/** The nearest integer; halves go to the even one. */
function rounded(x) {
  const floor = Math.floor(x), rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

function convolution(op, [{ data: x }], finish) {
  const { padding, dilation, groups, input_factor: factor, input_zero: zero } = op.attributes;
  const [channels, , width] = op.in, [out] = op.shape, [rows, columns] = kernelOf(op);
  const inside = channels / groups, outside = out / groups, weight = realWeights(op);
  const levels = factor === undefined ? null : new Float32Array(x.length);
  const short = op.tensors.weight.dtype === "U16" ? new Float32Array(x.length) : null;
  const read = levels || short || x, exact = float32(factor);
  return () => {
    if (levels)
      for (let i = 0; i < x.length; ++i) levels[i] = rounded(Math.min(Math.max(float32(x[i] * exact), -zero), 255 - zero));
    if (short) for (let i = 0; i < x.length; ++i) short[i] = toBfloat16(x[i]);
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

/** Copies each input's value at the nearest row and column to its channels of the result; other channels are 0. */
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

/** By the names of operations; biper.targets.web.OPERATIONS lists the same. */
const OPERATORS = {
  convolution, pool, flatten, binary_convolution: binaryConvolution,
  elementwise: copy, pad_channels: copy, concatenate: copy, resize: copy,
};
