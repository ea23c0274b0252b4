// Points over a sheet of pictures: click anywhere, draw a ring around points, and see a path. One canvas, one hit test.
const instances = new WeakMap();

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const box = parentElement.querySelector(".box"), canvas = box.querySelector("canvas");
  const tip = box.querySelector(".tip"), legend = box.querySelector(".legend");

  let me = instances.get(parentElement);
  if (!me) {
    me = { source: "", picture: null, ring: null, hover: -1, focus: 0, number: 0 };
    instances.set(parentElement, me);
    me.observer = new ResizeObserver(() => requestAnimationFrame(() => me.draw()));
    me.observer.observe(box);
  }
  me.draw = draw;
  me.points = data.points;
  if (data.src !== me.source) {
    me.source = data.src;
    me.picture = new Image();
    me.picture.onload = () => me.draw();
    me.picture.src = data.src;
  }
  canvas.setAttribute("aria-label", data.alt);
  legend.replaceChildren(...data.legend.map(({ colour, label }) => {
    const item = document.createElement("span"), dot = document.createElement("i");
    dot.style.background = colour;
    item.append(dot, label);
    return item;
  }));
  canvas.onpointerdown = (event) => { canvas.setPointerCapture(event.pointerId); canvas.focus({ preventScroll: true }); me.ring = [at(event)]; };
  canvas.onpointermove = (event) => {
    if (me.ring) { me.ring.push(at(event)); draw(); return; }
    const near = nearest(at(event), 12);
    if (near !== me.hover) { me.hover = near; draw(); }
    tip.textContent = near < 0 ? "" : data.titles[me.points[near][2]] ?? "";
  };
  canvas.onpointerleave = () => { me.hover = -1; draw(); };
  canvas.onpointerup = (event) => {
    if (!me.ring) return;
    const ring = me.ring, far = Math.max(...ring.map(([x, y]) => Math.hypot(x - ring[0][0], y - ring[0][1])));
    me.ring = null;
    if (far < 0.02) send({ at: unit(at(event)) });
    else send({ inside: me.points.flatMap(([x, y, , id], i) => (within(screen([x, y]), ring) ? [id ?? i] : [])).slice(0, 200) });
    draw();
  };
  canvas.onpointercancel = () => { me.ring = null; draw(); };
  canvas.onkeydown = (event) => {
    const moves = { ArrowRight: [0.02, 0], ArrowLeft: [-0.02, 0], ArrowDown: [0, 0.02], ArrowUp: [0, -0.02] };
    me.cursor ??= [0.5, 0.5];
    if (event.key in moves) {
      me.cursor = me.cursor.map((value, i) => Math.min(1, Math.max(0, value + moves[event.key][i])));
    } else if (event.key === "Enter" || event.key === " ") send({ at: unit(me.cursor) });
    else return;
    event.preventDefault();
    draw();
  };
  canvas.onblur = () => { me.cursor = null; draw(); };
  draw();
  return () => { me.observer.disconnect(); instances.delete(parentElement); };

  function send(what) { me.number = Math.max(Date.now(), me.number + 1); setStateValue("chosen", { number: me.number, ...what }); }
  function at(event) {
    const r = canvas.getBoundingClientRect();
    return [(event.clientX - r.left) / r.width, (event.clientY - r.top) / r.height];
  }
  function unit([x, y]) {
    const [x0, y0, x1, y1] = data.box;
    return [x0 + x * (x1 - x0), y0 + y * (y1 - y0)];
  }
  function screen([x, y]) {
    const [x0, y0, x1, y1] = data.box;
    return [(x - x0) / (x1 - x0), (y - y0) / (y1 - y0)];
  }
  function nearest([x, y], reach) {
    let best = -1, least = reach / canvas.clientWidth;
    me.points.forEach((point, i) => {
      const [a, b] = screen(point), far = Math.hypot(a - x, b - y);
      if (far < least) { least = far; best = i; }
    });
    return best;
  }
  function within([x, y], ring) {
    let inside = false;
    for (let i = 0, j = ring.length - 1; i < ring.length; j = i++) {
      const [xi, yi] = ring[i], [xj, yj] = ring[j];
      if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
    }
    return inside;
  }

  function draw() {
    const wide = Math.min(box.clientWidth, data.side);
    if (!wide) return;
    const ratio = window.devicePixelRatio || 1, size = Math.round(wide * ratio);
    if (canvas.width !== size) { canvas.width = canvas.height = size; canvas.style.width = canvas.style.height = `${wide}px`; }
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, size, size);
    if (me.picture?.complete && me.picture.naturalWidth) {
      pen.globalAlpha = data.faint;
      pen.drawImage(me.picture, 0, 0, size, size);
      pen.globalAlpha = 1;
    }
    const style = getComputedStyle(box), accent = style.getPropertyValue("--st-primary-color") || "#4b49c8";
    me.points.forEach((point, i) => {
      const [x, y] = screen(point), r = (i === me.hover ? 6 : 3.2) * ratio;
      pen.beginPath();
      if (point[4]) pen.rect(x * size - r, y * size - r, 2 * r, 2 * r);
      else pen.arc(x * size, y * size, r, 0, 2 * Math.PI);
      pen.fillStyle = data.colours[point[2]]; pen.fill();
      pen.lineWidth = ratio; pen.strokeStyle = "rgba(255,255,255,.85)"; pen.stroke();
    });
    line(pen, data.path.map(screen), size, ratio, accent);
    if (me.ring) line(pen, me.ring, size, ratio, accent);
    for (const mark of data.marks) label(pen, screen(mark.at), mark.label, size, ratio, accent);
    if (me.cursor) label(pen, me.cursor, "+", size, ratio, "#1b1d29");
    canvas.dataset.drawn = String(Number(canvas.dataset.drawn || 0) + 1);
  }
  function line(pen, points, size, ratio, colour) {
    if (points.length < 2) return;
    for (const [stroke, width] of [["#fff", 5], [colour, 2.5]]) {
      pen.beginPath();
      points.forEach(([x, y], i) => (i ? pen.lineTo(x * size, y * size) : pen.moveTo(x * size, y * size)));
      pen.lineJoin = "round"; pen.strokeStyle = stroke; pen.lineWidth = width * ratio; pen.stroke();
    }
  }
  function label(pen, [x, y], text, size, ratio, colour) {
    pen.font = `600 ${11 * ratio}px sans-serif`;
    const half = Math.max(9 * ratio, pen.measureText(text).width / 2 + 5 * ratio);
    pen.beginPath(); pen.roundRect(x * size - half, y * size - 9 * ratio, 2 * half, 18 * ratio, 9 * ratio);
    pen.fillStyle = colour; pen.fill(); pen.lineWidth = 1.5 * ratio; pen.strokeStyle = "#fff"; pen.stroke();
    pen.fillStyle = "#fff"; pen.textAlign = "center"; pen.textBaseline = "middle";
    pen.fillText(text, x * size, y * size);
  }
}
