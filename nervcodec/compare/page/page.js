/* Fills the page from the data that it carries. */
const data = JSON.parse(document.getElementById("data").textContent);
const byId = id => document.getElementById(id);
const COLORS = 6;
const tip = byId("tip");

const colors = {};
{
  let next = 0;
  for (const [name, members] of Object.entries(data.curves)) {
    const ours = data.points[members[0]].codec === "hfsv";
    colors[name] = ours ? "var(--ours)" : `var(--c${next++ % COLORS})`;
  }
}
const curveOf = point => point.curve;

function make(parent, name, text, className) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  parent.append(element);
  return element;
}

function options(select, names) {
  clear(select);
  names.forEach((name, index) => {
    make(select, "option", name).value = index;
  });
}

const digits = name => ["ms_ssim", "ssim"].includes(name) ? 4 : 2;
const kilobytes = bytes => `${(bytes / 1000).toFixed(1)} kB`;

function described(point) {
  const lines = [point.name, `${kilobytes(point.bytes)}, ${point.bpp.toFixed(4)} bpp, ` +
    `${point.kbps.toFixed(1)} kb/s`];
  for (const [name, label] of Object.entries(data.measures)) {
    lines.push(`${label}: ${point.quality[name].toFixed(digits(name))}`);
  }
  if (point.matches) lines.push(`at the bytes of ${point.matches}`);
  return lines.join("\n");
}

function showTip(text, box) {
  tip.textContent = text;
  tip.hidden = false;
  const left = Math.min(box.right + 12, innerWidth - tip.offsetWidth - 8);
  const top = Math.min(Math.max(8, box.top - tip.offsetHeight - 8), innerHeight - tip.offsetHeight - 8);
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${top}px`;
}

function hideTip() {
  tip.hidden = true;
}

function drawRates() {
  const measure = byId("measure").value;
  const bytes = data.points.map(point => point.bytes / 1000);
  const chart = axes(byId("rd"), {
    label: `${data.measures[measure]} over bytes`, logarithmic: true,
    x: [Math.min(...bytes) / 1.15, Math.max(...bytes) * 1.15],
    y: around(data.points.map(point => point.quality[measure]), 0.06),
    xLabel: "kB of video, logarithmic", yLabel: data.measures[measure],
  });
  for (const [name, members] of Object.entries(data.curves)) {
    const points = members.map(index => data.points[index]);
    polyline(chart, points.map(p => [p.bytes / 1000, p.quality[measure]]), colors[name]);
  }
  for (const [name, members] of Object.entries(data.curves)) {
    for (const index of members) {
      const point = data.points[index];
      const [x, y] = [chart.x(point.bytes / 1000), chart.y(point.quality[measure])];
      const ours = point.codec === "hfsv";
      const group = shape(chart.svg, "g", {
        tabindex: 0, role: "img", "aria-label": described(point), "data-point": index,
      });
      shape(group, "circle", {class: "hit", cx: x, cy: y, r: 12});
      if (ours) {
        shape(group, "rect", {
          class: "point", x: x - 5.5, y: y - 5.5, width: 11, height: 11,
          transform: `rotate(45 ${x} ${y})`, style: `fill:${colors[name]}`,
        });
      } else {
        shape(group, "circle", {
          class: "point", cx: x, cy: y, r: point.matches ? 4 : 5, style: `fill:${colors[name]}`,
        });
      }
      const show = () => showTip(described(point), group.getBoundingClientRect());
      group.addEventListener("pointerenter", show);
      group.addEventListener("focus", show);
      group.addEventListener("pointerleave", hideTip);
      group.addEventListener("blur", hideTip);
    }
  }
  legend(byId("rd-legend"), Object.entries(colors));
}

let player = null;
let cursor = null;

function drawFrames() {
  const tiles = player.data.points.filter(index => index !== null).map(index => data.points[index]);
  const chart = axes(byId("frames"), {
    label: "RGB PSNR over frames; click to go to a frame", logarithmic: false,
    x: [0, Math.max(1, data.reference.frames - 1)],
    y: around(tiles.flatMap(point => point.frame_psnr), 0.08),
    xLabel: "frame", yLabel: "RGB PSNR (dB)",
  });
  for (const point of tiles) {
    polyline(chart, point.frame_psnr.map((psnr, frame) => [frame, psnr]), colors[curveOf(point)]);
  }
  cursor = shape(chart.svg, "line", {class: "cursor", y1: chart.top, y2: chart.bottom});
  cursor.place = frame => {
    cursor.setAttribute("x1", chart.x(frame));
    cursor.setAttribute("x2", chart.x(frame));
  };
  const frameAt = event => {
    const box = chart.svg.getBoundingClientRect();
    const place = (event.clientX - box.left) / box.width * chart.svg.viewBox.baseVal.width;
    return Math.max(0, Math.min(data.reference.frames - 1, Math.round(chart.back(place))));
  };
  chart.svg.addEventListener("click", event => player.seek(frameAt(event)));
  chart.svg.addEventListener("pointermove", event => {
    const frame = frameAt(event);
    const lines = tiles.map(point => `${point.name}: ${point.frame_psnr[frame].toFixed(2)} dB`);
    showTip([`frame ${frame}`, ...lines].join("\n"),
      {right: event.clientX, top: event.clientY});
  });
  chart.svg.addEventListener("pointerleave", hideTip);
  legend(byId("frames-legend"), tiles.map(point => [point.name, colors[curveOf(point)]]));
  cursor.place(player.frame);
}

function tell() {
  if (!player) return;
  const {labels, frames} = player.data;
  byId("play").textContent = player.playing ? "Pause" : "Play";
  byId("frame").value = player.frame;
  byId("frame-text").textContent = `${player.frame} / ${frames - 1}`;
  byId("wipe").value = Math.round(player.wipe * 1000);
  byId("wipe-label").hidden = player.view !== "wipe";
  byId("view").value = player.view;
  const psnr = tile => {
    const index = player.data.points[tile];
    return index === null ? "" :
      `, ${data.points[index].frame_psnr[player.frame].toFixed(2)} dB`;
  };
  byId("left-tag").textContent = labels[player.left] + psnr(player.left);
  byId("right-tag").textContent = labels[player.right] + psnr(player.right);
  byId("picture").setAttribute("aria-label",
    `${player.view} of ${labels[player.left]} and ${labels[player.right]}, frame ${player.frame}`);
  if (cursor) cursor.place(player.frame);
}

function choose(index) {
  const earlier = player;
  if (earlier) earlier.close();
  const {width, height} = data.reference;
  player = new Player(data.players[index], [width, height], data.frame_rate, tell);
  if (earlier) {
    Object.assign(player, {view: earlier.view, wipe: earlier.wipe});
    player.frame = Math.min(earlier.frame, player.data.frames - 1);
  }
  for (const [side, value] of [["left", 0], ["right", 1]]) {
    options(byId(side), player.data.labels);
    byId(side).value = value;
  }
  byId("frame").max = player.data.frames - 1;
  const {frames} = player.data, all = data.reference.frames;
  byId("cut").textContent = frames < all ? ` Only the first ${frames} of ${all} frames are here.` : "";
  drawFrames();
  tell();
}

function setUpPlayer() {
  if (!data.players.length) return;
  byId("pictures").hidden = false;
  options(byId("player"), data.players.map(entry => entry.name));
  byId("player").addEventListener("change", event => choose(Number(event.target.value)));
  for (const side of ["left", "right"]) {
    byId(side).addEventListener("change", event => {
      player.show({[side]: Number(event.target.value)});
    });
  }
  byId("view").addEventListener("change", event => player.show({view: event.target.value}));
  byId("wipe").addEventListener("input", event => player.show({wipe: event.target.value / 1000}));
  byId("frame").addEventListener("input", event => player.seek(Number(event.target.value)));
  byId("play").addEventListener("click", () => player.toggle());
  byId("back").addEventListener("click", () => player.seek(player.frame - 1));
  byId("forward").addEventListener("click", () => player.seek(player.frame + 1));
  const picture = byId("picture");
  const drag = event => {
    if (player.view !== "wipe" || !event.buttons) return;
    const box = picture.getBoundingClientRect();
    player.show({wipe: Math.max(0, Math.min(1, (event.clientX - box.left) / box.width))});
  };
  picture.addEventListener("pointerdown", event => {
    picture.setPointerCapture(event.pointerId);
    drag(event);
  });
  picture.addEventListener("pointermove", drag);
  const keys = {
    " ": () => player.toggle(),
    ArrowLeft: () => player.seek(player.frame - 1),
    ArrowRight: () => player.seek(player.frame + 1),
    "[": () => player.show({wipe: Math.max(0, player.wipe - 0.05)}),
    "]": () => player.show({wipe: Math.min(1, player.wipe + 0.05)}),
    d: () => player.show({view: player.view === "difference" ? "wipe" : "difference"}),
  };
  picture.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  choose(data.players.length - 1);
  byId("player").value = data.players.length - 1;
}

function row(table, cells, tag = "td") {
  const line = make(table, "tr");
  for (const cell of cells) {
    const [text, className] = Array.isArray(cell) ? cell : [cell];
    make(line, tag, text, className);
  }
  return line;
}

function fillBytes() {
  const names = Object.keys(data.layers);
  if (!names.length) return;
  byId("bytes").hidden = false;
  const select = byId("bytes-file");
  options(select, names);
  const fill = () => {
    const parts = data.layers[names[Number(select.value)]];
    const total = parts.reduce((sum, part) => sum + part[1], 0);
    const most = Math.max(...parts.map(part => part[1]));
    const table = clear(byId("bytes-table"));
    for (const [name, bytes] of [...parts].sort((a, b) => b[1] - a[1])) {
      const line = row(table, [name, "", bytes.toFixed(0), `${(100 * bytes / total).toFixed(1)} %`]);
      line.children[1].className = "bar";
      make(line.children[1], "div", "", "fill").style.width = `${100 * bytes / most}%`;
    }
    row(table, ["file", "", total.toFixed(0), "100.0 %"]).className = "ours";
  };
  select.addEventListener("change", fill);
  select.value = names.length - 1;
  fill();
}

const signed = (value, places) => `${value > 0 ? "+" : ""}${value.toFixed(places)}`;

const GOOD_OVERLAP = 0.75;

/* An overlap, marked where it is small or none. */
function overlap(share) {
  const percent = `${Math.round(100 * share)} %`;
  return share < GOOD_OVERLAP ? [`${percent} ⚠`, "warn"] : percent;
}

function fillDeltas() {
  const name = byId("bd-measure").value;
  const table = clear(byId("bd"));
  row(table, [["curve", "text"], ["from", "text"], "BD-rate", "PCHIP", "overlap", "BD-quality",
    "overlap", ["why there is none", "text"]], "th");
  for (const entry of data.bd.filter(entry => entry.metric === name)) {
    const percent = value => value === null ? "none" : `${signed(value, 1)} %`;
    const reasons = new Set([entry.bd_rate === null && entry.rate_note,
      entry.bd_quality === null && entry.quality_note].filter(Boolean));
    const line = row(table, [
      [entry.test, "text"], [entry.anchor, "text"],
      percent(entry.bd_rate), percent(entry.bd_rate_pchip), overlap(entry.rate_overlap),
      entry.bd_quality === null ? "none" : signed(entry.bd_quality, digits(name)),
      overlap(entry.quality_overlap), [[...reasons].join("; "), "note"],
    ]);
    if (entry.test.startsWith("hfsv")) line.className = "ours";
  }
}

function fillPoints() {
  const table = byId("points");
  const names = Object.keys(data.measures);
  row(table, [["point", "text"], "bytes", "bpp", "kb/s", ...names.map(n => data.measures[n]),
    "encode s", "decode s", ["at the bytes of", "text"]], "th");
  for (const members of Object.values(data.curves)) {
    for (const point of members.map(index => data.points[index])) {
      const line = row(table, [[point.name, "text"], point.bytes, point.bpp.toFixed(4),
        point.kbps.toFixed(1), ...names.map(n => point.quality[n].toFixed(digits(n))),
        point.encode_seconds === null ? "?" : point.encode_seconds.toFixed(1),
        point.decode_seconds.toFixed(2), [point.matches || "", "text"]]);
      if (point.codec === "hfsv") line.className = "ours";
    }
  }
}

function fillText() {
  const {name, width, height, frames} = data.reference;
  byId("title").textContent = `${name}: .hfsv and conventional codecs`;
  byId("summary").textContent = `${frames} frames of ${width}x${height} at ` +
    `${data.frame_rate.toFixed(3)} a second. ${data.points.length} points; frames are compared ` +
    "by index. How they were made is on the fairness card below.";
  for (const warning of data.warnings) make(byId("warnings"), "p", warning, "warning");
  for (const [question, answer, words] of data.card) {
    make(byId("card"), "dt", question);
    const description = make(byId("card"), "dd", answer);
    if (!words) continue;
    const details = make(description, "details");
    make(details, "summary", "all settings in its own words");
    make(details, "p", words);
  }
}

function fillEqual() {
  const ours = data.points.filter(point => point.codec === "hfsv");
  const matched = data.points.filter(point => point.matches);
  if (!matched.length) return;
  byId("equal").hidden = false;
  const columns = [...new Set(matched.map(curveOf))];
  const select = byId("equal-measure");
  const fill = () => {
    const name = select.value, places = digits(name);
    const table = clear(byId("equal-table"));
    row(table, [["file", "text"], "bytes", "hfsv", ...columns], "th");
    for (const own of ours.sort((a, b) => a.bytes - b.bytes)) {
      const theirs = columns.map(column => {
        const point = matched.find(p => curveOf(p) === column && p.matches === own.setting);
        if (!point) return "";
        const value = point.quality[name];
        return `${value.toFixed(places)} (${signed(value - own.quality[name], places)})`;
      });
      row(table, [[own.setting, "text"], own.bytes, own.quality[name].toFixed(places), ...theirs]);
    }
  };
  select.addEventListener("change", fill);
  fill();
}

for (const id of ["measure", "equal-measure", "bd-measure"]) {
  for (const [name, label] of Object.entries(data.measures)) make(byId(id), "option", label).value = name;
}
byId("measure").addEventListener("change", drawRates);
byId("bd-measure").addEventListener("change", fillDeltas);
fillText();
fillEqual();
drawRates();
setUpPlayer();
fillBytes();
fillDeltas();
fillPoints();
let width = innerWidth;
addEventListener("resize", () => {
  if (width === innerWidth) return;
  width = innerWidth;
  drawRates();
  if (player) drawFrames();
});
addEventListener("keydown", event => { if (event.key === "Escape") hideTip(); });
