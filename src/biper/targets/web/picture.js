// Resizes a picture of any size to the pixels that a model takes, in the arithmetic of Pillow as the Python runtime.
"use strict";

/** Converts RGBA to [row][column][channel] of 1 or 3 channels; grey is ITU-R 601 in 16-bit fixed point. */
function channelsOf(rgba, channels) {
  const count = rgba.length / 4, out = new Uint8Array(count * channels);
  for (let i = 0; i < count; ++i) {
    const [r, g, b] = [rgba[4 * i], rgba[4 * i + 1], rgba[4 * i + 2]];
    if (channels === 1) out[i] = (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
    else out.set([r, g, b], 3 * i);
  }
  return out;
}

/** The weights of a triangle filter for each output pixel, at least as wide as its step, in 22-bit fixed point. */
function triangle(size, outSize) {
  const scale = size / outSize, support = Math.max(scale, 1);
  return Array.from({ length: outSize }, (_, i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(Math.floor(center - support + 0.5), 0);
    const last = Math.min(Math.floor(center + support + 0.5), size);
    const weights = [];
    for (let at = first; at < last; ++at) weights.push(Math.max(1 - Math.abs((at - center + 0.5) / support), 0));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((weight) => Math.trunc((weight / sum) * 4194304 + 0.5)) };
  });
}

/** Resizes along one direction: `lines` lines, each of `size` samples `stride` apart that begin at `start(line)`. */
function resizeLines(pixels, out, size, outSize, lines, start, stride, outStart, outStride) {
  const taps = triangle(size, outSize);
  for (let line = 0; line < lines; ++line)
    for (let i = 0; i < outSize; ++i) {
      let sum = 1 << 21;
      const { first, weights } = taps[i];
      for (let tap = 0; tap < weights.length; ++tap) sum += pixels[start(line) + (first + tap) * stride] * weights[tap];
      out[outStart(line) + i * outStride] = Math.min(Math.max(sum >> 22, 0), 255);
    }
  return out;
}

/** Bilinear resize that averages where it shrinks, first along rows, then along columns. */
function resize(pixels, channels, width, height, outWidth, outHeight) {
  if (width !== outWidth) {
    const at = (row) => (line) => Math.floor(line / channels) * row * channels + (line % channels);
    const out = new Uint8Array(outWidth * height * channels);
    pixels = resizeLines(pixels, out, width, outWidth, height * channels, at(width), channels, at(outWidth), channels);
  }
  if (height !== outHeight) {
    const row = outWidth * channels, out = new Uint8Array(row * outHeight), at = (line) => line;
    pixels = resizeLines(pixels, out, height, outHeight, row, at, row, at, row);
  }
  return pixels;
}
