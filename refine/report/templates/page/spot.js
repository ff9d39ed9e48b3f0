"use strict";
// One spot: its numbers, its pixels (observed, model, residual) over frames, its rocking curve; and a gallery.

nb.FIELDS = [
  ["experiment", "experiment", 0], ["panel", "panel", 0], ["frame", "frame", 2], ["resolution, Å", "d", 3], ["counts", "counts", 0],
  ["intensity", "intensity", 1, "intensity_sigma"], ["scale", "scale", 4, "scale_sigma"], ["background, counts a pixel", "background", 2],
  ["χ² of its pixels", "chi_square", 2], ["radial residual, px", "radial_px", 3], ["tangential residual, px", "tangential_px", 3],
];

// An image [slow][fast] on a small canvas; null is a pixel that was not measured.
nb.pixelsOf = (image, shade, label) => {
  const height = image.length, width = image[0].length;
  const canvas = nb.el("canvas", { width, height, class: "pixels", role: "img", "aria-label": label, title: label });
  const context = canvas.getContext("2d"), data = context.createImageData(width, height), hole = nb.rgb(nb.colour("hole"));
  image.forEach((row, y) => row.forEach((value, x) => {
    const colour = value === null ? hole : shade(value), at = 4 * (y * width + x);
    data.data.set([...colour, 255], at);
  }));
  context.putImageData(data, 0, 0);
  return canvas;
};

nb.summed = (frames) => frames[0].map((row, y) => row.map((_, x) => {
  const here = frames.map((f) => f[y][x]).filter((v) => v !== null);
  return here.length ? here.reduce((a, b) => a + b) : null;
}));

// z of a box summed over frames, from the residuals of each: their variances add.
nb.summedZ = (box) => box.z[0].map((row, y) => row.map((_, x) => {
  let difference = 0, variance = 0;
  box.z.forEach((z, f) => {
    if (z[y][x] === null) return;
    const away = box.observed[f][y][x] - box.model[f][y][x];
    difference += away;
    variance += Math.abs(z[y][x]) > 0.05 ? (away / z[y][x]) ** 2 : Math.max(box.model[f][y][x], 0.01);
  });
  return variance > 0 ? difference / Math.sqrt(variance) : null;
}));

nb.shades = (box, summed) => {
  const values = (summed ? [nb.summed(box.observed), nb.summed(box.model)].flat(2) : [box.observed, box.model].flat(3)).filter((v) => v !== null);
  const top = values.reduce((a, b) => Math.max(a, b), 1);
  return { counts: (v) => nb.ramp("counts", v / top), residual: (v) => nb.ramp("residual", (v + 5) / 10) };
};

nb.three = (box) => {
  const shade = nb.shades(box, true);
  const cell = (image, how, label) => nb.el("figure", {}, nb.pixelsOf(image, how, label), nb.el("figcaption", {}, label));
  return nb.el("div", { class: "three" }, cell(nb.summed(box.observed), shade.counts, "observed"), cell(nb.summed(box.model), shade.counts, "model"), cell(nb.summedZ(box), shade.residual, "z"));
};

nb.overFrames = (box) => {
  if (box.observed.length < 2) return null;
  const shade = nb.shades(box, false);
  const row = (label, frames, how) => nb.el("tr", {}, nb.el("th", {}, label), ...frames.map((image, f) => nb.el("td", {}, nb.pixelsOf(image, how, `${label}, frame ${box.at[0] + f}`))));
  const head = nb.el("tr", {}, nb.el("th", {}, "frame"), ...box.observed.map((_, f) => nb.el("td", { class: "n" }, box.at[0] + f)));
  return nb.el("div", { class: "scroll" }, nb.el("table", { class: "frames" }, head, row("observed", box.observed, shade.counts), row("model", box.model, shade.counts), row("z", box.z, shade.residual)));
};

nb.rocking = (box) => {
  if (box.observed.length < 3) return null;
  const light = (frames) => frames.map((image) => image.flat().reduce((a, v) => a + (v || 0), 0));
  const x = box.observed.map((_, f) => box.at[0] + f);
  return nb.chart({ x: { label: "frame" }, y: { label: "counts in the box" }, title: "rocking curve", height: 220,
    series: [{ kind: "points", x, y: light(box.observed), colour: nb.colour("used"), label: "observed" }, { kind: "line", x, y: light(box.model), colour: nb.colour("warm"), label: "model" }] });
};

nb.spotCard = (data) => {
  const boxes = new Map(data.boxes.map((box) => [box.spot, box]));
  const card = nb.el("div", { class: "card" });
  const empty = nb.el("p", { class: "note" }, "Click a spot on the picture, on a chart or in the table.");
  const show = (i) => {
    if (i === null) return card.replaceChildren(empty);
    const s = data.spots, box = boxes.get(i);
    const why = s.state[i] === 0 ? "used in the fit" : s.state[i] === 1 ? "left out of the fit, to test it" : `not used: ${s.reason[i]}`;
    const rows = nb.FIELDS.filter(([, name]) => s[name][i] !== null).map(([label, name, digits, sigma]) =>
      nb.el("tr", {}, nb.el("th", {}, label), nb.el("td", { class: "n" }, nb.fixed(s[name][i], digits) + (sigma && s[sigma][i] !== null ? ` ± ${nb.fixed(s[sigma][i], digits)}` : ""))));
    const place = (what, f, w) => (s[f][i] === null ? null : nb.el("tr", {}, nb.el("th", {}, `${what}, px`), nb.el("td", { class: "n" }, `${nb.fixed(s[f][i])}, ${nb.fixed(s[w][i])}`)));
    return card.replaceChildren(
      nb.el("h3", {}, nb.spotName(s, i)), nb.el("p", { class: `state ${s.state[i] === 2 ? "alarm" : ""}` }, why),
      box ? nb.three(box) : nb.el("p", { class: "note" }, "The page does not hold the pixels of this spot."),
      nb.el("table", { class: "facts" }, ...rows, place("observed", "observed_fast_px", "observed_slow_px"), place("predicted before", "start_fast_px", "start_slow_px"), place("predicted after", "end_fast_px", "end_slow_px")),
      ...(box ? [nb.overFrames(box), nb.rocking(box)].filter((made) => made) : []),
    );
  };
  nb.onSelect(show);
  show(null);
  return card;
};

nb.GALLERY = 5;

// The spots that the model explains best and worst; boxes come sorted by that.
nb.gallery = (data) => {
  if (!data.boxes.length) return null;
  const worst = data.boxes.slice(-nb.GALLERY).reverse(), best = data.boxes.slice(0, Math.max(0, data.boxes.length - worst.length)).slice(0, nb.GALLERY);
  const tile = (box) => nb.el("button", { type: "button", class: "spot", onclick: () => nb.select(box.spot) },
    nb.el("b", {}, `${nb.spotName(data.spots, box.spot)} χ² ${nb.fixed(data.spots.chi_square[box.spot])}`), nb.three(box));
  const strip = (title, boxes) => (boxes.length ? [nb.el("h3", {}, title), nb.el("div", { class: "strip" }, ...boxes.map(tile))] : []);
  return nb.el("div", {}, ...strip("Spots that the model explains best", best), ...strip("Spots that it explains worst", worst));
};
