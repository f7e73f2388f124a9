// The operations on arrays of a packed program. Each takes an operation, its inputs and its result, and returns a function
// that computes it. A value has `data`, `shape` and `strides`: how far apart the elements along each axis are.
//
// Images (C, H, W) are [row][column][channel]. So are arrays of three axes, and of four of which the first has size 1.
// All other arrays are in row-major order.
"use strict";

const product = (numbers) => numbers.reduce((all, number) => all * number, 1);

/** How far apart in memory the elements along each axis of a value are. */
function stridesOf(shape) {
  const rank = shape.length, order = shape.map((_, axis) => axis), strides = shape.map(() => 0);
  if (rank === 3 || (rank === 4 && shape[0] === 1)) order.push(...order.splice(rank - 3, 1));
  let step = 1;
  for (const axis of order.reverse()) {
    strides[axis] = step;
    step *= shape[axis];
  }
  return strides;
}

/** The strides of a value that is read in another shape to which it broadcasts. */
function broadcastStrides({ shape, strides }, to) {
  const own = strides.map((step, axis) => (shape[axis] === 1 ? 0 : step));
  return [...Array(to.length - shape.length).fill(0), ...own];
}

/**
 * The offsets of all positions of axes of these sizes, in row-major order, in an operand that moves by `steps`. They are
 * computed once, when the model is loaded.
 */
function offsets(sizes, steps, start = 0) {
  let found = Int32Array.of(start);
  sizes.forEach((size, axis) => {
    const next = new Int32Array(found.length * size);
    for (let i = 0, at = 0; i < found.length; ++i)
      for (let k = 0; k < size; ++k) next[at++] = found[i] + k * steps[axis];
    found = next;
  });
  return found;
}

/** The error function, to float32: a series for small x, and a continued fraction of its complement for large x. */
function erf(x) {
  const a = Math.abs(x);
  if (a > 5) return Math.sign(x);
  if (a < 2.5) {
    let term = x, sum = x;
    for (let n = 1; Math.abs(term) > 1e-12; ++n) {
      term *= (-x * x) / n;
      sum += term / (2 * n + 1);
    }
    return (2 / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = a;
  for (let n = 40; n > 0; --n) fraction = a + n / 2 / fraction;
  return Math.sign(x) * (1 - Math.exp(-a * a) / (Math.sqrt(Math.PI) * fraction));
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const hardsigmoid = (x) => Math.min(Math.max(x + 3, 0), 6) / 6;

/** The functions of one value; `a` has their parameters. */
const UNARY = {
  abs: Math.abs, atan: Math.atan, bfloat16: (x) => toBfloat16(x), ceil: Math.ceil, cos: Math.cos, erf, exp: Math.exp, expm1: Math.expm1,
  floor: Math.floor, hardsigmoid,
  log: Math.log, log1p: Math.log1p, round: (x) => rounded(x), sigmoid, sign: Math.sign, sin: Math.sin, sqrt: Math.sqrt,
  tanh: Math.tanh,
  clip: (x, a) => Math.min(Math.max(x, float32(a.low)), float32(a.high)),
  elu: (x, a) => (x > 0 ? x * a.scale : Math.expm1(x * a.input_scale) * a.alpha * a.scale),
  gelu: (x) => (x * (1 + erf(x / Math.SQRT2))) / 2,
  gelu_tanh: (x) => (x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)))) / 2,
  hardswish: (x) => x * hardsigmoid(x),
  leaky_relu: (x, a) => (x > 0 ? x : x * a.slope),
  mish: (x) => x * Math.tanh(x > 20 ? x : Math.log1p(Math.exp(x))),
  negative: (x) => -x,
  power: (x, a) => x ** float32(a.exponent),
  reciprocal: (x) => 1 / x,
  relu: (x) => Math.max(x, 0),
  rsqrt: (x) => 1 / Math.sqrt(x),
  silu: (x) => x * sigmoid(x),
  softplus: (x, a) => (x * a.beta > a.threshold ? x : Math.log1p(Math.exp(x * a.beta)) / a.beta),
};

/** The functions of two values. */
const BINARY = {
  add: (x, y) => x + y, subtract: (x, y) => x - y, multiply: (x, y) => x * y, divide: (x, y) => x / y,
  maximum: Math.max, minimum: Math.min, power: (x, y) => x ** y,
  equal: (x, y) => +(x === y), not_equal: (x, y) => +(x !== y), greater: (x, y) => +(x > y),
  greater_equal: (x, y) => +(x >= y), less: (x, y) => +(x < y), less_equal: (x, y) => +(x <= y),
};

const REDUCTIONS = {
  sum: BINARY.add, mean: BINARY.add, product: BINARY.multiply, max: BINARY.maximum, min: BINARY.minimum,
};

/** A function of the elements of one, two or three inputs at each position of the result. */
function elementwise(inputs, out, compute) {
  const places = inputs.map((value) => offsets(out.shape, broadcastStrides(value, out.shape)));
  const to = offsets(out.shape, out.strides), [x, y, z] = inputs.map(({ data }) => data), [p, q, r] = places;
  return () => {
    if (!y) for (let i = 0; i < to.length; ++i) out.data[to[i]] = compute(x[p[i]]);
    else if (!z) for (let i = 0; i < to.length; ++i) out.data[to[i]] = compute(x[p[i]], y[q[i]]);
    else for (let i = 0; i < to.length; ++i) out.data[to[i]] = compute(x[p[i]], y[q[i]], z[r[i]]);
  };
}

/** Copies elements along axes of these sizes; `from` and `to` are offsets. */
function copyBetween(input, out, from, to) {
  return () => {
    for (let i = 0; i < to.length; ++i) out.data[to[i]] = input.data[from[i]];
  };
}

function reduce({ attributes: { function: name, axes } }, [input], out) {
  const { data, shape, strides } = input, kept = shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
  const pick = (numbers, chosen) => chosen.map((axis) => numbers[axis]);
  const outer = offsets(pick(shape, kept), pick(strides, kept)), inner = offsets(pick(shape, axes), pick(strides, axes));
  const to = offsets(out.shape, out.strides), compute = REDUCTIONS[name], divisor = name === "mean" ? inner.length : 1;
  return () => {
    for (let i = 0; i < to.length; ++i) {
      let y = data[outer[i] + inner[0]];
      for (let k = 1; k < inner.length; ++k) y = compute(y, data[outer[i] + inner[k]]);
      out.data[to[i]] = y / divisor;
    }
  };
}

/** Calls `body` with the numbers that lie along `axes` for each position of the other axes, and stores what it returns. */
function groups(axes, { data, shape, strides }, out, body) {
  const kept = shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
  const pick = (numbers, chosen) => chosen.map((axis) => numbers[axis]);
  const outer = offsets(pick(shape, kept), pick(strides, kept)), inner = offsets(pick(shape, axes), pick(strides, axes));
  const numbers = new Float64Array(inner.length);
  return () => {
    for (const start of outer) {
      inner.forEach((place, i) => { numbers[i] = data[start + place]; });
      body(numbers);
      inner.forEach((place, i) => { out.data[start + place] = numbers[i]; });
    }
  };
}

function softmax({ attributes: { axis, log } }, [input], out) {
  return groups([axis], input, out, (numbers) => {
    const largest = numbers.reduce((a, b) => Math.max(a, b), -Infinity);
    const sum = numbers.reduce((all, x) => all + Math.exp(x - largest), 0);
    numbers.forEach((x, i) => { numbers[i] = log ? x - largest - Math.log(sum) : Math.exp(x - largest) / sum; });
  });
}

function normalize({ attributes: { axes, center, epsilon } }, [input], out) {
  return groups(axes, input, out, (numbers) => {
    const mean = center ? numbers.reduce((all, x) => all + x, 0) / numbers.length : 0;
    const square = numbers.reduce((all, x) => all + (x - mean) ** 2, 0) / numbers.length;
    numbers.forEach((x, i) => { numbers[i] = (x - mean) / Math.sqrt(square + epsilon); });
  });
}

function matmul(op, [left, right], out) {
  const batch = out.shape.slice(0, -2), [rows, inner] = left.shape.slice(-2), columns = right.shape.at(-1);
  const a = broadcastStrides(left, [...batch, rows, inner]), b = broadcastStrides(right, [...batch, inner, columns]);
  const starts = [a, b, out.strides].map((steps) => offsets(batch, steps));
  const [x, y, z] = [a, b, out.strides].map((steps) => steps.slice(-2));
  return () => {
    for (let i = 0; i < starts[2].length; ++i)
      for (let row = 0; row < rows; ++row)
        for (let column = 0; column < columns; ++column) {
          let sum = 0, p = starts[0][i] + row * x[0], q = starts[1][i] + column * y[1];
          for (let k = 0; k < inner; ++k, p += x[1], q += y[0]) sum += left.data[p] * right.data[q];
          out.data[starts[2][i] + row * z[0] + column * z[1]] = sum;
        }
  };
}

function reshape(op, [input], out) {
  return copyBetween(input, out, offsets(input.shape, input.strides), offsets(out.shape, out.strides));
}

function permute({ attributes: { order } }, [input], out) {
  return copyBetween(input, out, offsets(out.shape, order.map((axis) => input.strides[axis])), offsets(out.shape, out.strides));
}

function slice({ attributes: { starts, steps } }, [input], out) {
  const start = starts.reduce((sum, first, axis) => sum + first * input.strides[axis], 0);
  const from = offsets(out.shape, input.strides.map((step, axis) => step * steps[axis]), start);
  return copyBetween(input, out, from, offsets(out.shape, out.strides));
}

function join({ attributes: { axis } }, inputs, out) {
  let first = 0;
  const parts = inputs.map((input) => {
    const to = offsets(input.shape, out.strides, first * out.strides[axis]);
    first += input.shape[axis];
    return copyBetween(input, out, offsets(input.shape, input.strides), to);
  });
  return () => parts.forEach((part) => part());
}

function pad({ attributes: { low, interior, value } }, [input], out) {
  let places = [[0, 0]];
  input.shape.forEach((size, axis) => {
    const next = [];
    for (const [from, to] of places)
      for (let i = 0; i < size; ++i) {
        const at = low[axis] + i * (interior[axis] + 1);
        if (at >= 0 && at < out.shape[axis]) next.push([from + i * input.strides[axis], to + at * out.strides[axis]]);
      }
    places = next;
  });
  const copy = copyBetween(input, out, places.map(([from]) => from), places.map(([, to]) => to));
  return () => {
    out.data.fill(value);
    copy();
  };
}

function sample({ attributes: { axis, function: name }, tensors: { index, weight } }, [input], out) {
  const [taps, size] = index.shape, others = (numbers) => numbers.filter((_, each) => each !== axis);
  const starts = [input, out].map(({ strides }) => offsets(others(out.shape), others(strides)));
  return () => {
    for (let i = 0; i < starts[0].length; ++i)
      for (let element = 0; element < size; ++element) {
        let y = name === "max" ? -Infinity : 0;
        for (let tap = 0; tap < taps; ++tap) {
          const at = tap * size + element, x = input.data[starts[0][i] + index.data[at] * input.strides[axis]];
          y = name === "max" ? Math.max(y, x) : y + (weight ? x * weight.data[at] : x);
        }
        out.data[starts[1][i] + element * out.strides[axis]] = y;
      }
  };
}

function constant({ tensors: { value } }, inputs, out) {
  offsets(out.shape, out.strides).forEach((place, i) => { out.data[place] = value.data[i]; });
  return () => {};
}

/** By the names of operations. */
const ARRAY_OPERATORS = {
  constant, reduce, softmax, normalize, matmul, reshape, permute, slice, join, pad, sample,
  expand: (op, inputs, out) => elementwise(inputs, out, (x) => x),
  select: (op, inputs, out) => elementwise(inputs, out, (condition, yes, no) => (condition !== 0 ? yes : no)),
  unary: ({ attributes }, inputs, out) => {
    const compute = UNARY[attributes.function];
    return elementwise(inputs, out, (x) => compute(x, attributes));
  },
  binary: ({ attributes }, inputs, out) => elementwise(inputs, out, BINARY[attributes.function]),
};

/** The shape of the result of an operation on arrays, given its inputs. */
function arrayShape({ operation, attributes: a, tensors }, inputs) {
  const shape = inputs.length ? inputs[0].shape : [], broadcast = (shapes) => {
    const rank = Math.max(...shapes.map((each) => each.length));
    return Array.from({ length: rank }, (_, i) => Math.max(...shapes.map((each) => each[i - rank + each.length] ?? 1)));
  };
  switch (operation) {
    case "constant": return tensors.value.shape;
    case "binary":
    case "select": return broadcast(inputs.map((value) => value.shape));
    case "reduce": return shape.flatMap((size, axis) => (!a.axes.includes(axis) ? [size] : a.keep ? [1] : []));
    case "matmul": {
      const [left, right] = inputs.map((value) => value.shape);
      return [...broadcast([left.slice(0, -2), right.slice(0, -2)]), left.at(-2), right.at(-1)];
    }
    case "reshape":
    case "expand": return a.shape;
    case "permute": return a.order.map((axis) => shape[axis]);
    case "slice": return a.sizes;
    case "join": return shape.map((size, axis) => (axis === a.axis ? inputs.reduce((sum, x) => sum + x.shape[axis], 0) : size));
    case "pad": return shape.map((size, axis) => size + (size - 1) * a.interior[axis] + a.low[axis] + a.high[axis]);
    case "sample": return shape.map((size, axis) => (axis === a.axis ? tensors.index.shape[1] : size));
  }
  return shape;
}
