"use strict";
// What the viewer paints, layer by layer: the frame's pixels, panels, resolution rings, spots.

nb.paintViewer = (viewer) => {
  const context = viewer.canvas.getContext("2d"), ratio = window.devicePixelRatio || 1;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = nb.colour("wash");
  context.fillRect(0, 0, viewer.width, viewer.height);
  if (viewer.shown.frame && viewer.data.frames.length) nb.paintFrame(viewer, context, ratio);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  if (viewer.shown.panels) nb.paintPanels(viewer, context);
  if (viewer.shown.rings && viewer.data.beam) nb.paintRings(viewer, context);
  nb.paintSpots(viewer, context);
};

// Levels of a panel, in greys for the wanted contrast; what was not measured has a colour of its own.
nb.tint = (viewer, number) => {
  const key = `${viewer.frame} ${number}`, now = `${viewer.contrast} ${nb.colour("paper")}`;
  let held = viewer.tinted.get(key);
  if (!held) {
    held = { image: new Image(), canvas: nb.el("canvas"), now: null };
    held.image.onload = () => {
      held.ready = true;
      viewer.paint();
    };
    held.image.src = viewer.data.frames[viewer.frame].panels[number];
    viewer.tinted.set(key, held);
  }
  if (!held.ready) return null;
  if (held.now !== now) {
    held.now = now;
    const { naturalWidth: width, naturalHeight: height } = held.image;
    Object.assign(held.canvas, { width, height });
    const context = held.canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(held.image, 0, 0);
    const pixels = context.getImageData(0, 0, width, height);
    const [dark, light] = [nb.rgb(nb.colour("spot")), nb.rgb(nb.colour("paper"))], hole = nb.rgb(nb.colour("hole"));
    for (let i = 0; i < pixels.data.length; i += 4) {
      const level = pixels.data[i], share = Math.min(1, ((level - 1) / 254) * viewer.contrast);
      for (let c = 0; c < 3; c++) pixels.data[i + c] = level ? light[c] + share * (dark[c] - light[c]) : hole[c];
    }
    context.putImageData(pixels, 0, 0);
  }
  return held.canvas;
};

nb.rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

nb.paintFrame = (viewer, context, ratio) => {
  const { scale, x, y } = viewer.view, bin = viewer.data.frames[viewer.frame].bin;
  context.imageSmoothingEnabled = false;
  viewer.data.panels.forEach((panel, number) => {
    const image = nb.tint(viewer, number);
    if (!image) return;
    const [o, f, s] = panel[viewer.when].flat, k = ratio * scale;
    context.setTransform(k * bin * f[0], k * bin * f[1], k * bin * s[0], k * bin * s[1], ratio * x + k * o[0], ratio * y + k * o[1]);
    context.drawImage(image, 0, 0);
  });
};

nb.paintPanels = (viewer, context) => {
  context.lineWidth = 1;
  context.strokeStyle = context.fillStyle = nb.colour("faint");
  context.font = "11px system-ui, sans-serif";
  viewer.data.panels.forEach((panel, number) => {
    const [w, h] = panel.size, corners = [[0, 0], [w, 0], [w, h], [0, h]].map((c) => viewer.screen(number, ...c));
    context.beginPath();
    corners.forEach((c) => context.lineTo(...c));
    context.closePath();
    context.stroke();
    const across = Math.hypot(corners[1][0] - corners[0][0], corners[1][1] - corners[0][1]);
    if (viewer.shown.names && across > context.measureText(panel.name).width + 8) context.fillText(panel.name, Math.min(...corners.map((c) => c[0])) + 4, Math.min(...corners.map((c) => c[1])) + 13);
  });
};

nb.RINGS = [50, 20, 10, 7, 5, 4, 3.5, 3, 2.5, 2.2, 2, 1.8, 1.6, 1.5, 1.4, 1.3, 1.2, 1.1, 1, 0.9, 0.8, 0.7, 0.6, 0.5];

// Where the cone of a resolution meets the plane of the detector.
nb.paintRings = (viewer, context) => {
  const { direction: u, sample, wavelength } = viewer.data.beam;
  const other = Math.abs(u[0]) < 0.9 ? [1, 0, 0] : [0, 1, 0];
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const unit = (a) => a.map((v) => v / Math.hypot(...a));
  const first = unit(cross(u, other)), second = cross(u, first);
  context.strokeStyle = context.fillStyle = nb.colour("warm");
  context.lineWidth = 0.8;
  context.setLineDash([5, 4]);
  for (const d of nb.RINGS) {
    const sine = wavelength / (2 * d);
    if (sine >= 0.99) continue;
    const angle = 2 * Math.asin(sine);
    let drawing = false, labelled = false;
    context.beginPath();
    for (let step = 0; step <= 180; step++) {
      const turn = (step / 180) * 2 * Math.PI;
      const ray = u.map((v, i) => Math.cos(angle) * v + Math.sin(angle) * (Math.cos(turn) * first[i] + Math.sin(turn) * second[i]));
      const far = -sample[2] / ray[2];
      if (!(far > 0) || far > 1e5) { drawing = false; continue; }
      const at = [viewer.view.x + viewer.view.scale * (sample[0] + far * ray[0]), viewer.view.y + viewer.view.scale * (sample[1] + far * ray[1])];
      if (drawing) context.lineTo(...at);
      else context.moveTo(...at);
      drawing = true;
      if (!labelled && at[0] > 8 && at[0] < viewer.width - 40 && at[1] > 14 && at[1] < viewer.height - 6) {
        context.fillText(`${d} Å`, at[0] + 3, at[1] - 3);
        labelled = true;
      }
    }
    context.stroke();
  }
  context.setLineDash([]);
};

nb.paintSpots = (viewer, context) => {
  const s = viewer.data.spots, end = viewer.when, size = Math.min(9, Math.max(3, 3 * Math.sqrt(viewer.view.scale / viewer.whole)));
  context.lineWidth = 1.3;
  const warm = nb.colour("warm"), colours = [0, 1, 2].map(nb.stateColour);
  s.state.forEach((state, i) => {
    const predicted = s[`${end}_fast_px`][i] !== null ? viewer.screen(s.panel[i], s[`${end}_fast_px`][i], s[`${end}_slow_px`][i]) : null;
    const drawn = state < 2 || viewer.shown.rejected;
    if (predicted && viewer.shown.predicted && drawn) {
      context.strokeStyle = warm;
      context.beginPath();
      context.arc(...predicted, size, 0, 2 * Math.PI);
      context.stroke();
    }
    if (!viewer.visible(i)) return;
    const seen = viewer.screen(s.panel[i], s.observed_fast_px[i], s.observed_slow_px[i]);
    context.strokeStyle = colours[state];
    if (viewer.shown.observed) nb.cross(context, seen, size * 0.8);
    if (viewer.shown.residuals && predicted && state < 2) nb.arrow(context, predicted, seen, viewer.lengthened);
    if (nb.selected === i) {
      context.strokeStyle = nb.colour("bad");
      context.strokeRect(seen[0] - size * 2, seen[1] - size * 2, size * 4, size * 4);
    }
  });
};

nb.cross = (context, [x, y], size) => {
  context.beginPath();
  context.moveTo(x - size, y);
  context.lineTo(x + size, y);
  context.moveTo(x, y - size);
  context.lineTo(x, y + size);
  context.stroke();
};

// From where the model puts a spot towards where it was observed.
nb.arrow = (context, from, to, lengthened) => {
  const [dx, dy] = [lengthened * (to[0] - from[0]), lengthened * (to[1] - from[1])], length = Math.hypot(dx, dy);
  if (length < 1) return;
  const head = Math.min(7, length / 2), turn = Math.atan2(dy, dx), tip = [from[0] + dx, from[1] + dy];
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...tip);
  for (const side of [-0.45, 0.45]) {
    context.moveTo(...tip);
    context.lineTo(tip[0] - head * Math.cos(turn + side), tip[1] - head * Math.sin(turn + side));
  }
  context.stroke();
};
