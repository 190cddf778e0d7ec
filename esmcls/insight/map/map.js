"use strict";
// Draws the map. Everything from the user reaches the page as text (textContent), never as HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const at = id => document.getElementById(id);
const bytes = text => Uint8Array.from(atob(text), sign => sign.charCodeAt(0));
const numbers = (text, wide) => wide ? new Uint32Array(bytes(text).buffer) : new Uint16Array(bytes(text).buffer);
const STEPS = 65535, GREY = [196, 196, 196], LISTED = 40, HITS = 20;
const n = data.ids.length, known = data.known;
const places = numbers(data.places, false);
const canvas = at("canvas"), context = canvas.getContext("2d"), ring = at("ring"), tip = at("tip");
const view = { scale: 1, x: 0, y: 0 };  // a place in steps times scale plus x, y is a place in pixels of the canvas
let shades = new Uint32Array(n), shown = new Uint8Array(n).fill(1), only = -1, marked = -1, waiting = false;

// colours

const rgb = text => [1, 3, 5].map(start => parseInt(text.slice(start, start + 2), 16));
const packed = ([red, green, blue]) => (255 << 24 | blue << 16 | green << 8 | red) >>> 0;
const css = colour => `rgb(${colour.join(",")})`;
// viridis at nine places (matplotlib, CC0)
const VIRIDIS = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"].map(rgb);

function viridis(share) {
  const place = Math.min(share, 0.99999) * 8, first = Math.floor(place), rest = place - first;
  return VIRIDIS[first].map((part, channel) => Math.round(part + rest * (VIRIDIS[first + 1][channel] - part)));
}

function shade(code, names) {  // the most frequent have the palette's colours, further ones turn around the colour wheel
  if (names[code] === "") return GREY;
  if (code < data.palette.length) return rgb(data.palette[code]);
  if (code >= LISTED) return GREY;
  const hue = code * 137.508 % 360, light = [0.42, 0.62, 0.5][code % 3];
  return [0, 8, 4].map(k => {
    const turn = (k + hue / 30) % 12;
    return Math.round(255 * (light - 0.55 * Math.min(light, 1 - light) * Math.max(-1, Math.min(turn - 3, 9 - turn, 1))));
  });
}

const read = data.colours.map(colour => colour.names ? numbers(colour.codes, colour.wide) : numbers(colour.steps, false));

function value(colour, row) {
  const one = data.colours[colour], step = read[colour][row];
  if (one.names) return one.names[step];
  return step === STEPS ? "" : String(+(one.low + step / (STEPS - 1) * (one.high - one.low)).toPrecision(4));
}

function paint() {
  const chosen = at("colour").selectedIndex, one = data.colours[chosen], codes = read[chosen];
  const table = one.names ? one.names.map((_, code) => packed(shade(code, one.names))) : null;
  for (let row = 0; row < n; row++) {
    const step = codes[row];
    shades[row] = table ? table[step] : packed(step === STEPS ? GREY : viridis(step / (STEPS - 1)));
    shown[row] = only < 0 || step === only ? 1 : 0;
  }
  draw();
}

function legend() {
  const one = data.colours[at("colour").selectedIndex], list = at("legend");
  list.replaceChildren();
  at("range").hidden = Boolean(one.names);
  only = -1;
  if (!one.names) {
    at("scale").style.background = `linear-gradient(to right, ${VIRIDIS.map(css).join(", ")})`;
    at("low").textContent = +one.low.toPrecision(4);
    at("high").textContent = +one.high.toPrecision(4);
    return;
  }
  one.names.slice(0, LISTED).forEach((name, code) => {
    const button = document.createElement("button"), dot = document.createElement("span");
    dot.className = "dot";
    dot.style.background = css(shade(code, one.names));
    button.append(dot, `${name || "not known"} (${one.counts[code].toLocaleString("en")})`);
    button.setAttribute("aria-pressed", "false");
    button.onclick = () => {
      only = only === code ? -1 : code;
      [...list.querySelectorAll("button")].forEach((other, place) => other.setAttribute("aria-pressed", String(place === only)));
      paint();
    };
    item(list, button);
  });
  if (one.names.length > LISTED) item(list, `${(one.names.length - LISTED).toLocaleString("en")} others, grey`);
}

function item(list, content) {
  const line = document.createElement("li");
  line.append(content);
  list.append(line);
}

// drawing

function fit() {
  const size = Math.min(canvas.width, canvas.height) * 0.94;
  view.scale = size / STEPS;
  view.x = (canvas.width - size) / 2;
  view.y = (canvas.height - size) / 2;
}

function resize() {
  const ratio = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
  canvas.width = Math.max(1, Math.round(box.width * ratio));
  canvas.height = Math.max(1, Math.round(box.height * ratio));
  fit();
  draw();
}

function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; drawNow(); });
}

function disc(radius) {  // offsets of the pixels of a point
  const offsets = [];
  for (let y = -Math.ceil(radius); y <= radius; y++)
    for (let x = -Math.ceil(radius); x <= radius; x++) if (x * x + y * y <= radius * radius + 0.5) offsets.push([x, y]);
  return offsets;
}

function pointRadius() {
  const closer = view.scale * STEPS / Math.min(canvas.width, canvas.height);
  const ratio = window.devicePixelRatio || 1;
  return Math.max(1, Math.min(6, 120 / Math.sqrt(n) * Math.sqrt(closer))) * ratio;
}

function drawNow() {
  const { width, height } = canvas, image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer), offsets = disc(pointRadius());
  pixels.fill(0xffffffff);
  for (let pass = 0; pass < 2; pass++) {  // what is not chosen lies below
    for (let row = 0; row < known; row++) {
      if (shown[row] !== pass) continue;
      const colour = pass ? shades[row] : 0xffececec;
      const x0 = Math.round(places[2 * row] * view.scale + view.x), y0 = Math.round(places[2 * row + 1] * view.scale + view.y);
      if (x0 < -9 || y0 < -9 || x0 > width + 9 || y0 > height + 9) continue;
      for (const [dx, dy] of offsets) {
        const x = x0 + dx, y = y0 + dy;
        if (x >= 0 && y >= 0 && x < width && y < height) pixels[y * width + x] = colour;
      }
    }
  }
  context.putImageData(image, 0, 0);
  for (let row = known; row < n; row++) diamond(row);
  placeRing();
}

function diamond(row) {
  const [x, y] = pixel(row), size = 7 * (window.devicePixelRatio || 1);
  context.beginPath();
  context.moveTo(x, y - size); context.lineTo(x + size, y); context.lineTo(x, y + size); context.lineTo(x - size, y);
  context.closePath();
  context.fillStyle = shown[row] ? css([shades[row] & 255, shades[row] >> 8 & 255, shades[row] >> 16 & 255]) : "#ececec";
  context.strokeStyle = "#000";
  context.lineWidth = 2;
  context.fill();
  context.stroke();
}

const pixel = row => [places[2 * row] * view.scale + view.x, places[2 * row + 1] * view.scale + view.y];

function placeRing() {
  ring.hidden = marked < 0;
  if (marked < 0) return;
  const ratio = canvas.width / canvas.getBoundingClientRect().width, [x, y] = pixel(marked);
  ring.style.left = `${x / ratio}px`;
  ring.style.top = `${y / ratio}px`;
  ring.dataset.row = marked;
}

// words

function words(row) {
  const lines = [["b", data.ids[row]]];
  data.colours.forEach((colour, place) => { if (value(place, row) !== "") lines.push(["div", `${colour.name}: ${value(place, row)}`]); });
  for (const [id, label, distance] of row < known ? [] : data.nearest[row - known])
    lines.push(["div", `near: ${id}${label ? ` (${label})` : ""}, distance ${distance}`]);
  return lines.map(([tag, text]) => { const element = document.createElement(tag); element.textContent = text; return element; });
}

function mark(row, move) {
  marked = row;
  at("found").replaceChildren(...(row < 0 ? [] : words(row)));
  if (row >= 0 && move) {
    const closest = 4 * Math.min(canvas.width, canvas.height) / STEPS;
    view.scale = Math.max(view.scale, closest);
    view.x = canvas.width / 2 - places[2 * row] * view.scale;
    view.y = canvas.height / 2 - places[2 * row + 1] * view.scale;
  }
  draw();
}

const lower = data.ids.map(id => id.toLowerCase());

function search() {
  const text = at("search").value.trim().toLowerCase(), list = at("hits"), rows = [];
  list.replaceChildren();
  if (!text) return mark(-1, false);
  const exact = lower.indexOf(text);
  for (let row = 0; row < n && rows.length <= HITS; row++) if (row !== exact && lower[row].includes(text)) rows.push(row);
  if (exact >= 0) rows.unshift(exact);
  if (!rows.length) { mark(-1, false); at("found").textContent = "no such id"; return; }
  mark(rows[0], true);
  rows.slice(1, HITS + 1).forEach(row => item(list, goTo(row, data.ids[row])));
  if (rows.length > HITS + 1) item(list, "and more");
}

function goTo(row, text) {
  const button = document.createElement("button");
  button.textContent = text;
  button.onclick = () => mark(row, true);
  return button;
}

function newcomers() {
  at("newcomers").hidden = known === n;
  for (let row = known; row < n; row++) {
    const [first] = data.nearest[row - known], near = first ? ` → ${first[0]}${first[1] ? `, ${first[1]}` : ""} (${first[2]})` : "";
    item(at("new"), goTo(row, data.ids[row] + near));
  }
}

// hands

function zoom(factor, x, y) {
  const whole = Math.min(canvas.width, canvas.height) / STEPS;
  const scale = Math.max(0.3 * whole, Math.min(2000 * whole, view.scale * factor));
  view.x = x - (x - view.x) * scale / view.scale;
  view.y = y - (y - view.y) * scale / view.scale;
  view.scale = scale;
  draw();
}

function nearestTo(x, y) {
  let best = -1, least = (12 * (window.devicePixelRatio || 1)) ** 2;
  for (let row = 0; row < n; row++) {
    if (!shown[row]) continue;
    const dx = places[2 * row] * view.scale + view.x - x, dy = places[2 * row + 1] * view.scale + view.y - y;
    const square = dx * dx + dy * dy;
    if (square <= least) { least = square; best = row; }
  }
  return best;
}

const pointers = new Map();
let moved = 0;
const spot = event => {
  const box = canvas.getBoundingClientRect(), ratio = canvas.width / box.width;
  return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
};
canvas.addEventListener("pointerdown", event => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, spot(event));
  moved = 0;
});
canvas.addEventListener("pointermove", event => {
  const [x, y] = spot(event), before = pointers.get(event.pointerId);
  if (!before) return hover(x, y, event);
  moved += Math.hypot(x - before[0], y - before[1]);
  if (pointers.size === 2) {
    const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    const was = Math.hypot(before[0] - other[0], before[1] - other[1]), is = Math.hypot(x - other[0], y - other[1]);
    if (was > 0) zoom(is / was, (x + other[0]) / 2, (y + other[1]) / 2);
  } else {
    view.x += x - before[0];
    view.y += y - before[1];
    draw();
  }
  pointers.set(event.pointerId, [x, y]);
});
for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, event => {
  pointers.delete(event.pointerId);
  if (name === "pointerup" && moved < 4) { const row = nearestTo(...spot(event)); if (row >= 0) mark(row, false); }
});
canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * 0.0015), ...spot(event));
}, { passive: false });
canvas.addEventListener("keydown", event => {
  const step = 40 * (window.devicePixelRatio || 1), moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
  if (moves[event.key]) { view.x += moves[event.key][0]; view.y += moves[event.key][1]; draw(); event.preventDefault(); }
  if (event.key === "+" || event.key === "-") zoom(event.key === "+" ? 1.4 : 1 / 1.4, canvas.width / 2, canvas.height / 2);
});

function hover(x, y, event) {
  const row = nearestTo(x, y), box = canvas.getBoundingClientRect();
  tip.hidden = row < 0;
  if (row < 0) return;
  tip.replaceChildren(...words(row));
  tip.style.left = `${Math.min(event.clientX - box.left + 14, Math.max(0, box.width - tip.offsetWidth - 4))}px`;
  tip.style.top = `${Math.min(event.clientY - box.top + 14, Math.max(0, box.height - tip.offsetHeight - 4))}px`;
}

data.colours.forEach(colour => at("colour").add(new Option(colour.name)));
at("colour").onchange = () => { legend(); paint(); };
at("search").oninput = search;
at("in").onclick = () => zoom(1.6, canvas.width / 2, canvas.height / 2);
at("out").onclick = () => zoom(1 / 1.6, canvas.width / 2, canvas.height / 2);
at("all").onclick = () => { fit(); draw(); };
window.addEventListener("resize", resize);
legend();
newcomers();
resize();
paint();
