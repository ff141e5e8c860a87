/* Charts in SVG: axes, curves with points, and lines over frames. */
const SVG = "http://www.w3.org/2000/svg";

function shape(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function clear(element) {
  element.replaceChildren();
  return element;
}

/* Round numbers between low and high, some `wanted` of them. */
function ticks(low, high, wanted) {
  const rough = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(f => f * power).find(s => s >= rough);
  const found = [];
  for (let t = Math.ceil(low / step) * step; t <= high + step * 1e-9; t += step) found.push(t);
  return found;
}

/* 1, 2 and 5 times the powers of ten between low and high. */
function logTicks(low, high) {
  const found = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++) {
    for (const f of [1, 2, 5]) {
      const t = f * 10 ** e;
      if (t >= low && t <= high) found.push(t);
    }
  }
  return found;
}

function short(value) {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 3;
  return String(Number(value.toFixed(digits)));
}

/* An empty chart with its scales; `x` and `y` turn values into places. */
function axes(place, options) {
  const narrow = place.clientWidth < 560;
  const [width, height] = narrow ? [560, 420] : [960, 420];
  const edge = {left: 62, right: 16, top: 12, bottom: 46};
  const svg = shape(clear(place), "svg", {
    viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": options.label,
  });
  const map = options.logarithmic ? Math.log10 : value => value;
  const [x0, x1] = options.x.map(map), [y0, y1] = options.y;
  const inner = {width: width - edge.left - edge.right, height: height - edge.top - edge.bottom};
  const x = value => edge.left + (map(value) - x0) / (x1 - x0 || 1) * inner.width;
  const y = value => edge.top + (y1 - value) / (y1 - y0 || 1) * inner.height;
  const back = place => (place - edge.left) / inner.width * (x1 - x0) + x0;
  const bottom = height - edge.bottom;
  for (const t of options.logarithmic ? logTicks(...options.x) : ticks(...options.x, 8)) {
    shape(svg, "line", {class: "grid", x1: x(t), x2: x(t), y1: edge.top, y2: bottom});
    shape(svg, "text", {x: x(t), y: bottom + 18, "text-anchor": "middle"}, short(t));
  }
  for (const t of ticks(...options.y, 6)) {
    shape(svg, "line", {class: "grid", x1: edge.left, x2: width - edge.right, y1: y(t), y2: y(t)});
    shape(svg, "text", {x: edge.left - 8, y: y(t) + 4, "text-anchor": "end"}, short(t));
  }
  const middle = edge.left + inner.width / 2, centre = edge.top + inner.height / 2;
  shape(svg, "text", {x: middle, y: height - 6, "text-anchor": "middle"}, options.xLabel);
  shape(svg, "text", {
    x: 14, y: centre, "text-anchor": "middle", transform: `rotate(-90 14 ${centre})`,
  }, options.yLabel);
  return {svg, x, y, back, top: edge.top, bottom};
}

/* A range with some air around it. */
function around(values, share) {
  let low = Infinity, high = -Infinity;
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  const air = (high - low) * share || Math.abs(high) * share || 1;
  return [low - air, high + air];
}

function polyline(chart, pairs, color, attributes = {}) {
  const points = pairs.map(([a, b]) => `${chart.x(a).toFixed(1)},${chart.y(b).toFixed(1)}`);
  return shape(chart.svg, "polyline", {
    class: "curve", points: points.join(" "), style: `stroke:${color}`, ...attributes,
  });
}

function legend(list, entries) {
  clear(list);
  for (const [name, color] of entries) {
    const item = document.createElement("li");
    item.textContent = name;
    item.style.setProperty("--color", color);
    list.append(item);
  }
}
