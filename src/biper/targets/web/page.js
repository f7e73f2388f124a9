// The page: it takes a picture or a drawing and shows the classes that the network finds.
"use strict";

const SHOWN = 10, PEN = 0.14, REPEATS = 25, REPEAT_MILLISECONDS = 1000;
const element = (id) => document.getElementById(id);
const bytes = Uint8Array.from(atob(element("model").textContent.trim()), (character) => character.charCodeAt(0));
const model = loadModel(bytes);
const draws = model.channels === 1, preparation = preprocessingOf(model);
const picture = element("picture").getContext("2d", { willReadFrequently: true });

/** For tests: the model, and of the last image its pixels, the outputs, the median time, and whether it is final. */
window.biper = { model, last: null };

function classify(pixels) {
  const times = [], outputs = timed(pixels, times);
  const last = { pixels, outputs, probabilities: probabilitiesOf(outputs), milliseconds: times[0], final: false };
  window.biper.last = last;
  showSeen(pixels);
  showAnswers(last.probabilities);
  showFacts(last.milliseconds);
  repeat(pixels, times, () => last === window.biper.last, () => {
    last.milliseconds = times.toSorted((a, b) => a - b)[times.length >> 1];
    last.final = true;
    showFacts(last.milliseconds);
  });
}

/** The softmax of the outputs, or the sigmoid of a single one. */
function probabilitiesOf(outputs) {
  if (outputs.length === 1) return [1 / (1 + Math.exp(-outputs[0]))];
  const largest = outputs.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = Array.from(outputs, (output) => Math.exp(output - largest));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

function timed(pixels, times) {
  const start = performance.now(), outputs = model.run(pixels);
  times.push(performance.now() - start);
  return outputs;
}

/** Runs the model again while `wanted()`, each time in its own turn of the event loop, until the compiler is warm. */
function repeat(pixels, times, wanted, done) {
  const begin = performance.now();
  const next = () => {
    if (!wanted()) return;
    timed(pixels, times);
    if (times.length < REPEATS && performance.now() - begin < REPEAT_MILLISECONDS) setTimeout(next);
    else done();
  };
  setTimeout(next);
}

function showSeen(pixels) {
  const canvas = element("seen"), image = new ImageData(model.width, model.height);
  const places = { L: [0, 0, 0], RGB: [0, 1, 2], BGR: [2, 1, 0] }[preparation.channels];
  canvas.width = model.width;
  canvas.height = model.height;
  for (let i = 0; i < model.width * model.height; ++i) {
    for (let c = 0; c < 3; ++c) image.data[4 * i + c] = pixels[i * model.channels + places[c]];
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Shows a row for each class: all in their order where there are few, else the likeliest. */
function showAnswers(probabilities) {
  const indices = model.classes.map((_, index) => index);
  const sorted = indices.slice().sort((a, b) => probabilities[b] - probabilities[a] || a - b);
  const shown = indices.length <= SHOWN ? indices : sorted.slice(0, SHOWN);
  const list = element("answers");
  while (list.children.length < shown.length) list.append(answerRow());
  shown.forEach((index, row) => {
    const item = list.children[row], share = probabilities[index];
    item.classList.toggle("best", index === sorted[0] && share > 0);
    item.querySelector(".name").textContent = item.title = model.classes[index];
    item.querySelector(".bar").style.width = `${100 * share}%`;
    item.querySelector(".share").textContent = share ? `${(100 * share).toFixed(1)} %` : "";
  });
  const alone = indices.length === 1 && probabilities[0] < 0.5;  // one class, which the picture does not show
  element("best").textContent = `${alone ? "not " : ""}${model.classes[sorted[0]]}`;
}

function answerRow() {
  const item = document.createElement("li");
  for (const name of ["name", "track", "share"]) {
    const part = document.createElement(name === "track" ? "div" : "span");
    part.className = name;
    item.append(part);
  }
  const bar = document.createElement("div");
  bar.className = "bar";
  item.querySelector(".track").append(bar);
  return item;
}

function showFacts(milliseconds) {
  const short = (number) => number.toLocaleString("en", { maximumSignificantDigits: 2 });
  const facts = {
    "an inference": milliseconds ? `${short(milliseconds)} ms` : "\u2013",
    "inferences a second": milliseconds ? short(1000 / milliseconds) : "\u2013",
    "the model": bytes.length < 1e6 ? `${(bytes.length / 1000).toFixed(1)} kB` : `${(bytes.length / 1e6).toFixed(2)} MB`,
    "binary products": `${(model.binaryProducts / 1e6).toPrecision(3)} million`,
    "image": `${model.width} \u00d7 ${model.height} ${model.channels === 1 ? "grey" : "colour"}`,
  };
  element("facts").replaceChildren(...Object.entries(facts).map(([what, value]) => {
    const group = document.createElement("div"), term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = what;
    text.textContent = value;
    group.append(term, text);
    return group;
  }));
}

async function open(file) {
  element("message").textContent = "";
  let bitmap;
  try {
    const turned = preparation.exif_orientation;
    const content = turned ? file : new Blob([withoutExif(new Uint8Array(await file.arrayBuffer()))]);
    bitmap = await createImageBitmap(content, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    element("message").textContent = `${file.name || "This"} is no image that the browser can read.`;
    return;
  }
  const { width, height } = bitmap;
  const whole = new OffscreenCanvas(width, height).getContext("2d");
  whole.fillStyle = `rgb(${preparation.background})`;  // shows through transparent parts
  whole.fillRect(0, 0, width, height);
  whole.drawImage(bitmap, 0, 0);
  const pixels = whole.getImageData(0, 0, width, height).data;
  const canvas = picture.canvas, scale = Math.min(canvas.width / width, canvas.height / height);
  clear();
  element("drop").classList.add("full");
  canvas.classList.toggle("pixels", scale > 2);
  picture.imageSmoothingEnabled = scale <= 2;
  picture.imageSmoothingQuality = "high";
  const [w, h] = [width * scale, height * scale];
  picture.drawImage(bitmap, (canvas.width - w) / 2, (canvas.height - h) / 2, w, h);
  classify(preprocess(pixels, width, height, preparation));
}

/** The drawing, cropped and centred in a square with a margin, as the digits of the data sets are. */
function drawnPixels() {
  const { width, height } = picture.canvas, ink = channelsOf(picture.getImageData(0, 0, width, height).data, "L");
  let [top, bottom, left, right] = [height, -1, width, -1];
  ink.forEach((value, at) => {
    if (value < 64) return;
    const x = at % width, y = (at - x) / width;
    [top, bottom, left, right] = [Math.min(top, y), Math.max(bottom, y), Math.min(left, x), Math.max(right, x)];
  });
  if (bottom < top) return null;
  const margin = model.height > 16 ? 1 / 5 : 0;
  const side = Math.ceil(Math.max(bottom - top + 1, right - left + 1) * (1 + 2 * margin));
  const x0 = Math.round((left + right + 1 - side) / 2), y0 = Math.round((top + bottom + 1 - side) / 2);
  const square = new Uint8Array(side * side);
  for (let y = top; y <= bottom; ++y)
    for (let x = left; x <= right; ++x) square[(y - y0) * side + x - x0] = ink[y * width + x];
  return resample(square, 1, side, side, [0, 0, side, side], model.width, model.height, "bilinear");
}

function clear() {
  picture.canvas.classList.remove("pixels");
  picture.clearRect(0, 0, picture.canvas.width, picture.canvas.height);
  if (draws) picture.fillRect(0, 0, picture.canvas.width, picture.canvas.height);
  element("drop").classList.remove("full");
}

function reset() {
  clear();
  window.biper.last = null;
  element("message").textContent = "";
  showAnswers(model.classes.map(() => 0));
  showFacts(0);
  element("best").textContent = "Nothing seen yet";
  const seen = element("seen");
  seen.width = seen.width;  // clears it
}

function listenToPen() {
  const canvas = picture.canvas;
  let last = null;
  const at = (event) => [event.offsetX * canvas.width / canvas.clientWidth, event.offsetY * canvas.height / canvas.clientHeight];
  canvas.addEventListener("pointerdown", (event) => {
    if (canvas.classList.contains("pixels")) clear();
    canvas.setPointerCapture(event.pointerId);
    last = at(event);
    move(event);
  });
  const move = (event) => {
    if (!last) return;
    const next = at(event);
    Object.assign(picture, { strokeStyle: "#fff", lineWidth: PEN * canvas.width, lineCap: "round", lineJoin: "round" });
    picture.beginPath();
    picture.moveTo(...last);
    picture.lineTo(...next);
    picture.stroke();
    last = next;
    element("drop").classList.add("full");
  };
  canvas.addEventListener("pointermove", move);
  for (const end of ["pointerup", "pointercancel"])
    canvas.addEventListener(end, () => {
      last = null;
      const pixels = drawnPixels();
      if (pixels) classify(pixels);
    });
}

element("drop").classList.toggle("pad", draws);
element("hint").textContent = draws ? "Draw here, or drop an image" : "Drop an image here, or paste one";
element("clear").addEventListener("click", reset);
element("file").addEventListener("change", (event) => {
  if (event.target.files.length) open(event.target.files[0]);
  event.target.value = "";
});
addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files][0];
  if (file) open(file);
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  element("drop").classList.add("over");
});
addEventListener("dragleave", () => element("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  element("drop").classList.remove("over");
  if (event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
});
if (draws) listenToPen();
element("answers").style.setProperty("--names", `${Math.max(...model.classes.map((name) => name.length)) + 1}ch`);
reset();
repeat(new Uint8Array(model.width * model.height * model.channels), [], () => !window.biper.last, () => {});
