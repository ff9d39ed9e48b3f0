"use strict";
// What all drawings share: the data, elements, colours, and which spot is selected.
const nb = { listeners: [], selected: null };

// Unpack the data of the page: zlib, which every browser since 2023 can undo.
nb.unpack = async (id) => {
  const text = document.getElementById(id).textContent.trim();
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
};

// An element with attributes and children; text is only ever text, whatever it holds.
nb.element = (space) => (tag, attributes = {}, ...children) => {
  const made = space ? document.createElementNS(space, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined).map((child) => (child instanceof Node ? child : String(child))));
  return made;
};
nb.el = nb.element(null);
nb.svg = nb.element("http://www.w3.org/2000/svg");

nb.colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
nb.stateColour = (state) => nb.colour(["used", "heldout", "rejected"][state]);
nb.minus = (text) => String(text).replace(/-/g, "−");
nb.fixed = (value, digits = 2) => (value === null || value === undefined ? "—" : nb.minus(value.toFixed(digits)));
nb.short = (value) => {
  if (value === null || value === undefined) return "—";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return nb.minus(size >= 1e5 || size < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(4))));
};

// Everybody who shows the selected spot is told when it changes.
nb.onSelect = (listener) => nb.listeners.push(listener);
nb.select = (spot) => {
  nb.selected = spot;
  nb.listeners.forEach((listener) => listener(spot));
};

// One drawing that fails says so in its place and leaves the others alone.
nb.draw = (id, make) => {
  const place = document.getElementById(id);
  if (!place) return;
  try {
    const made = make(place);
    if (made === null) place.closest("section, figure").hidden = true;
    else if (made) place.replaceChildren(made);
  } catch (error) {
    place.replaceChildren(nb.el("p", { class: "note" }, `This drawing could not be made: ${error.message}`));
    console.error(error);
  }
};

// Colours of counts (dark to light) and of residuals (blue, white, red), by a few stops each.
nb.RAMPS = {
  counts: [[0, 0, 4], [59, 15, 112], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]],
  residual: [[33, 102, 172], [146, 197, 222], [247, 247, 247], [244, 165, 130], [178, 24, 43]],
};
nb.ramp = (name, share) => {
  const stops = nb.RAMPS[name];
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const low = Math.min(Math.floor(at), stops.length - 2);
  return stops[low].map((from, channel) => from + (stops[low + 1][channel] - from) * (at - low));
};

// Where a pixel of a panel lies on the plane of the detector (mm), before ("start") or after ("end") the fit.
nb.place = (panel, when, fast, slow) => {
  const [origin, f, s] = panel[when].flat;
  return [origin[0] + fast * f[0] + slow * s[0], origin[1] + fast * f[1] + slow * s[1]];
};

nb.spotName = (spots, i) =>
  spots.state[i] === 2 && !spots.h[i] && !spots.k[i] && !spots.l[i] ? "no index" : nb.minus(`(${spots.h[i]} ${spots.k[i]} ${spots.l[i]})`);
