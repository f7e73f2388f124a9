// Reads a packed program and runs it on typed arrays, one image at a time. It uses no library and no network.
//
// Layouts: real values are Float32Array [row][column][channel]. Bits are Int32Array [row][column][word], 32 channels a
// word, the first in the lowest bit; bits beyond the channels are 0. The operators are in operators.js.
"use strict";

const float32 = Math.fround;

/** The tensors and the document of a packed file, which is a safetensors file with the document in its metadata. */
function readFile(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const kinds = { F32: Float32Array, I32: Int32Array, I8: Int8Array, U8: Uint8Array, F16: Uint16Array, U16: Uint16Array };
  const turned = { F16: halfToFloat, U16: fromBfloat16 };
  const tensors = {};
  const { __metadata__: metadata, ...entries } = header;
  for (const [name, { dtype, shape, data_offsets: [begin, end] }] of Object.entries(entries)) {
    const raw = bytes.slice(8 + length + begin, 8 + length + end);
    const data = new kinds[dtype](raw.buffer);
    tensors[name] = { dtype, shape, data: dtype in turned ? Float32Array.from(data, turned[dtype]) : data };
  }
  return { tensors, document: JSON.parse(metadata.biper) };
}

function halfToFloat(half) {
  const exponent = (half >> 10) & 31, fraction = half & 1023, sign = half >> 15 ? -1 : 1;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const word = new Uint32Array(1), number = new Float32Array(word.buffer);

function fromBfloat16(bits) {
  word[0] = bits << 16;
  return number[0];
}

/** A number rounded to 8 significant bits, halves to even. */
function toBfloat16(x) {
  number[0] = x;
  return Number.isNaN(x) ? x : fromBfloat16((word[0] + 0x7fff + ((word[0] >>> 16) & 1)) >>> 16);
}

/**
 * A model: its description, and `run(pixels)`, from a Uint8Array [row][column][channel] to a Float32Array of outputs, which
 * are those of its first result.
 */
function loadModel(bytes) {
  const { tensors, document: program } = readFile(bytes);
  const [channels, height, width] = program.input.shape;
  const real = new Map(), bits = new Map(), shapes = new Map();
  for (const [name, shape] of Object.entries({ image: program.input.shape, ...program.inputs })) {
    real.set(name, new Float32Array(product(shape)));
    shapes.set(name, shape);
  }
  const image = real.get("image"), results = program.outputs || { [program.output]: program.output };
  const steps = [];
  let binaryProducts = 0;
  program.operations.forEach((entry, index) => {
    const own = Object.fromEntries(entry.tensors.map((key) => [key, tensors[`${index}.${key}`]]));
    const attributes = { stride: [1, 1], dilation: [1, 1], groups: 1, ...entry.attributes };
    const op = { ...entry, attributes, tensors: own, in: shapes.get(entry.inputs[0]) };
    if (entry.operation in ARRAY_OPERATORS) {
      const described = (name) => ({ data: real.get(name), shape: shapes.get(name), strides: stridesOf(shapes.get(name)) });
      const read = entry.inputs.map(described), shape = arrayShape(op, read);
      real.set(entry.real, new Float32Array(product(shape)));
      shapes.set(entry.real, shape);
      steps.push(ARRAY_OPERATORS[entry.operation](op, read, described(entry.real)));
      return;
    }
    op.shape = shapeOf(op, entry.inputs.map((name) => shapes.get(name)));
    const size = op.shape[0] * op.shape[1] * op.shape[2];
    if (entry.real) real.set(entry.real, new Float32Array(size));
    if (entry.bits) bits.set(entry.bits, new Int32Array(Math.ceil(op.shape[0] / 32) * op.shape[1] * op.shape[2]));
    for (const name of [entry.real, entry.bits]) if (name) shapes.set(name, op.shape);
    const finish = epilogueOf(op, real, bits);
    const inputs = entry.inputs.map((name) => ({ data: real.get(name) || bits.get(name), shape: shapes.get(name) }));
    steps.push(OPERATORS[op.operation](op, inputs, finish));
    if (op.operation === "binary_convolution") {
      const [, rows, columns] = own.weight.shape;
      binaryProducts += size * rows * columns * (op.in[0] / attributes.groups);
    }
  });
  const multiplier = program.input.std.map((std) => float32(1 / float32(255 * float32(std))));
  const offset = program.input.std.map((std, i) => float32(float32(program.input.mean[i]) / float32(std)));
  const shape = shapes.get(program.output);
  const [outChannels, outHeight, outWidth] = shape.length === 3 ? shape : [product(shape), 1, 1];
  const numbers = outChannels === 1 ? ["positive"] : Array.from({ length: outChannels }, (_, i) => String(i));
  const classes = program.classes.length ? program.classes : numbers;
  return {
    preprocessing: program.preprocessing,
    channels, height, width, classes, binaryProducts, outputShape: [outHeight, outWidth, outChannels],
    /** The results of the last image by name, and further inputs, which are written before `run`: images and arrays. */
    value: (name) => ({ data: real.get(results[name] || name), shape: shapes.get(results[name] || name) }),
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

/**
 * The function that an operator calls with each sum: `finish(pixel, channel, sum)` applies the epilogue and stores the
 * result. It is called for the channels of a pixel in order, because the first of a word clears its bits.
 */
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
