// Turns a picture of any size into the pixels that a model takes, in the arithmetic of Pillow as the Python runtime.
"use strict";

/** The filters of Pillow: how far each reaches, in pixels of the smaller picture, and its weight at a distance. */
const FILTERS = {
  bilinear: [1, (x) => Math.max(1 - Math.abs(x), 0)],
  bicubic: [2, (x) => {
    x = Math.abs(x);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
  }],
  lanczos: [3, (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0)],
};
const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));

/** What the model does with a picture: what its file says, or the whole picture squeezed to the size of the input. */
function preprocessingOf({ preprocessing, channels, height, width }) {
  const whole = { size: [height, width], resize: [height, width], interpolation: "bilinear" };
  const rest = { channels: channels === 1 ? "L" : "RGB", background: [255, 255, 255], exif_orientation: true };
  return preprocessing || { ...whole, ...rest };
}

/** The bytes of a picture file whose EXIF part has a name that browsers do not know, so that they turn nothing. */
function withoutExif(bytes) {
  const name = { 0xff: "Exif\0\0", 0x89: "eXIf" }[bytes[0]];  // JPEG, PNG; browsers turn no others
  const letters = Array.from(name || "", (letter) => letter.charCodeAt(0));
  const at = bytes.findIndex((_, place) => letters.length && letters.every((letter, i) => bytes[place + i] === letter));
  return at < 0 ? bytes : bytes.with(at + 3, bytes[at + 3] + 1);
}

/** From opaque RGBA of a whole picture to [row][column][channel] of the model. */
function preprocess(rgba, width, height, { size, resize, interpolation, channels }) {
  const pixels = channelsOf(rgba, channels);
  const box = centralBox(width, height, size, resize);
  return resample(pixels, channels === "L" ? 1 : 3, width, height, box, size[1], size[0], interpolation);
}

/** Converts RGBA to [row][column][channel] in the order "RGB", "BGR" or "L"; grey is ITU-R 601 in 16-bit fixed point. */
function channelsOf(rgba, order) {
  const count = rgba.length / 4, grey = order === "L", [red, blue] = order === "BGR" ? [2, 0] : [0, 2];
  const out = new Uint8Array(count * (grey ? 1 : 3));
  for (let i = 0; i < count; ++i) {
    const [r, g, b] = [rgba[4 * i], rgba[4 * i + 1], rgba[4 * i + 2]];
    if (grey) {
      out[i] = (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
    } else {
      out[3 * i + red] = r;
      out[3 * i + 1] = g;
      out[3 * i + blue] = b;
    }
  }
  return out;
}

/** Left, top, right and bottom of the part of a picture that is its centre of `size` once it is resized. */
function centralBox(width, height, size, resize) {
  const short = Math.min(width, height);
  const along = (side) => Math.floor((resize * side) / short);
  const [rows, columns] = Array.isArray(resize) ? resize : [along(height), along(width)];
  const left = halfEven((columns - size[1]) / 2), top = halfEven((rows - size[0]) / 2);
  const [across, down] = [(x) => (x * width) / columns, (y) => (y * height) / rows];
  return [across(left), down(top), across(left + size[1]), down(top + size[0])];
}

function halfEven(x) {
  const low = Math.floor(x);
  return x - low === 0.5 ? low + (low % 2) : Math.round(x);
}

/** For each output pixel, the first pixel that it reads and the weights of a filter, in 22-bit fixed point. */
function tapsOf(size, from, to, outSize, filter) {
  const scale = Math.fround(to - from) / outSize, wide = Math.max(scale, 1), [reach, weightAt] = FILTERS[filter];
  return Array.from({ length: outSize }, (_, i) => {
    const center = from + (i + 0.5) * scale;
    const first = Math.max(Math.trunc(center - reach * wide + 0.5), 0);
    const last = Math.min(Math.trunc(center + reach * wide + 0.5), size);
    const weights = [];
    for (let at = first; at < last; ++at) weights.push(weightAt((at - center + 0.5) * (1 / wide)));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((weight) => Math.trunc((weight / sum) * 4194304 + (weight < 0 ? -0.5 : 0.5))) };
  });
}

/** For each output pixel, the one pixel that it reads. */
function nearestOf(size, from, to, outSize) {
  const scale = Math.fround(to - from) / outSize;
  let at = from + scale * 0.5;
  return Array.from({ length: outSize }, () => {
    const first = Math.min(Math.trunc(at), size - 1);
    at += scale;
    return { first, weights: [4194304] };
  });
}

/**
 * Resizes the part of a picture inside a box, first along rows, then along columns; where it shrinks, it averages (but
 * for "nearest").
 */
function resample(pixels, channels, width, height, box, outWidth, outHeight, filter) {
  const [left, top, right, bottom] = box.map(Math.fround);
  const taps = filter === "nearest" ? nearestOf : tapsOf;
  const whole = (from, to, size, outSize) => from === 0 && to === size && size === outSize;
  const across = whole(left, right, width, outWidth) ? null : taps(width, left, right, outWidth, filter);
  const down = whole(top, bottom, height, outHeight) ? null : taps(height, top, bottom, outHeight, filter);
  if (across) {
    const out = new Uint8Array(outWidth * height * channels);
    const [begin, end] = down ? [down[0].first, down[outHeight - 1].first + down[outHeight - 1].weights.length] : [0, height];
    for (let row = begin; row < end; ++row)
      for (let c = 0; c < channels; ++c)
        resampleLine(pixels, row * width * channels + c, out, row * outWidth * channels + c, channels, across);
    pixels = out;
  }
  if (down) {
    const stride = outWidth * channels, out = new Uint8Array(stride * outHeight);
    for (let at = 0; at < stride; ++at) resampleLine(pixels, at, out, at, stride, down);
    pixels = out;
  }
  return pixels;
}

/** One line of samples that are `stride` apart, from the place `start` to the place `outStart`. */
function resampleLine(pixels, start, out, outStart, stride, taps) {
  taps.forEach(({ first, weights }, i) => {
    let sum = 1 << 21;
    for (let tap = 0; tap < weights.length; ++tap) sum += pixels[start + (first + tap) * stride] * weights[tap];
    out[outStart + i * stride] = Math.min(Math.max(sum >> 22, 0), 255);
  });
}
