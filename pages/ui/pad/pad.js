// One instance per mounted pad; the function below runs again with new data, the DOM and this map survive.
//
// The plane is shown through a window: its centre and how wide it is, in units of the plane, y downwards. A sheet holds
// the images of the cells of one window. Dragging only looks things up in the sheet that is here; the server is asked
// for a new sheet when the window moves, and for the exact image when the pointer rests. One request is under way at a
// time, and only the newest wish follows it.
const instances = new WeakMap();
const REST = 140;      // ms without a move until the exact image is asked for
const PATIENCE = 8000; // ms until a request counts as lost
const PINS = 24;
const LARGEST = 8e6; // bytes of a picture dropped here
const EDGE = 0.05;     // share of the pad beside its border in which a held pointer moves the window on

export default function (component) {
  const { data, parentElement, setStateValue, setTriggerValue } = component;
  const $ = (name) => parentElement.querySelector(name);
  const box = $(".box"), plane = $(".plane"), ground = $(".ground"), over = $(".over"), image = $(".image");

  let me = instances.get(parentElement);
  if (!me) {
    me = {
      plane: null, at: [0, 0], window: [0, 0, 1], sheet: null, exact: null, trail: [], pins: [], number: 0, sent: null,
      again: false, timer: 0, frame: 0, went: -1, pointers: new Map(), pinch: 0, side: 0, moved: 0, seen: 0, times: [], ms: {},
    };
    instances.set(parentElement, me);
    me.observer = new ResizeObserver(() => requestAnimationFrame(() => { me.side = 0; me.redraw(); }));
    me.observer.observe(box);
  }
  me.set = setStateValue;
  me.redraw = redraw;
  me.data = data;
  box.classList.toggle("still", !data.roams);
  over.setAttribute("aria-label", data.alt);
  if (data.plane !== me.plane || data.go.number !== me.went) arrive();
  if (me.sent && data.answer >= me.sent.number) answered();
  if (data.sheet && data.sheet.key !== me.sheet?.key) take(data.sheet);
  else if (!data.sheet && !me.sheet) wish(true);
  if (data.exact && data.exact.key !== me.exact?.key) finish(data.exact);

  over.onpointerdown = down;
  over.onpointermove = move;
  over.onpointerup = over.onpointercancel = up;
  over.onkeydown = key;
  over.onwheel = (event) => {
    if (parentElement.activeElement !== over && over.getRootNode().activeElement !== over) return; // the page scrolls
    event.preventDefault();
    zoom(Math.exp(event.deltaY * 0.0015), place(event));
  };
  over.ondblclick = (event) => shift(place(event));
  over.onfocus = over.onblur = redraw;
  box.ondragover = (event) => event.preventDefault();
  box.ondrop = (event) => { event.preventDefault(); drop(event.dataTransfer.files[0]); };
  for (const button of parentElement.querySelectorAll("button")) button.onclick = () => act(button.dataset.act);
  redraw();
  return () => {
    clearTimeout(me.timer); clearTimeout(me.lost); cancelAnimationFrame(me.frame);
    me.observer.disconnect(); instances.delete(parentElement);
  };

  // --- What comes from the server -----------------------------------------------------------------------------------

  // Goes where the server says: another plane, a link, a restored picture.
  function arrive() {
    if (data.plane !== me.plane) {
      me.trail = [];
      me.exact = null;
      if (me.sheet && me.sheet.plane !== data.plane) me.sheet = null;
    }
    me.plane = data.plane;
    me.went = data.go.number;
    me.at = [...data.go.at];
    me.window = [...data.go.window];
    me.pins = data.go.pins.map((pin) => [...pin]);
    me.trail.push([...me.at]);
    me.ms = { ...data.ms };
    me.answer = null; // nobody dragged: what comes now is no answer whose time counts
  }

  function answered() {
    me.answer = me.sent;
    me.sent = null;
    clearTimeout(me.lost);
    me.ms = { ...data.ms };
    if (me.again) { me.again = false; wish(me.rest); }
  }

  function take(sheet) {
    const asked = me.answer;
    const picture = new Image();
    picture.src = sheet.src;
    picture.decode().then(() => {
      if (sheet.plane !== me.plane) return;
      me.sheet = { ...sheet, picture };
      time(asked, "sheet");
      me.moved++;
      redraw();
    }, () => {});
  }

  function finish(exact) {
    const asked = me.answer;
    const picture = new Image();
    picture.src = exact.src;
    picture.decode().then(() => {
      if (exact.plane !== me.plane) return;
      me.exact = { ...exact, picture };
      time(asked, "exact");
      redraw();
    }, () => {});
  }

  function time(asked, what) {
    if (!asked || asked.timed?.[what]) return;
    (asked.timed ??= {})[what] = true;
    me.ms = { ...me.ms, total: performance.now() - asked.when };
    box.dataset[what] = me.ms.total.toFixed(1);
    box.dataset[`${what}s`] = String(Number(box.dataset[`${what}s`] || 0) + 1);
  }

  // --- What goes to the server --------------------------------------------------------------------------------------

  // Asks for what the window and the resting position need; the newest wish wins.
  function wish(rest) {
    me.rest = rest;
    if (me.sent) { me.again = true; return; }
    me.number = Math.max(Date.now(), me.number + 1);
    me.sent = { number: me.number, when: performance.now() };
    clearTimeout(me.lost);
    me.lost = setTimeout(() => { me.sent = null; if (me.again) { me.again = false; wish(me.rest); } }, PATIENCE);
    me.set("view", {
      number: me.number, plane: me.plane, at: me.at, window: me.window, pins: me.pins, rest,
      has: me.sheet?.key ?? "", went: me.went,
    });
  }

  // A picture that was saved here brings its view back.
  async function drop(file) {
    if (!file || file.size > LARGEST) return;
    const bytes = new Uint8Array(await file.arrayBuffer());
    let text = "";
    for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    setTriggerValue("dropped", { content: btoa(text) });
  }

  function rested() {
    clearTimeout(me.timer);
    const last = me.trail[me.trail.length - 1];
    if (!last || last[0] !== me.at[0] || last[1] !== me.at[1]) {
      me.trail.push([...me.at]);
      if (me.trail.length > 60) me.trail.shift();
    }
    speak();
    wish(true);
    redraw();
  }

  function later(rest = true, wait = REST) {
    clearTimeout(me.timer);
    me.timer = setTimeout(rest ? rested : () => wish(false), wait);
  }

  // --- Moving -------------------------------------------------------------------------------------------------------

  function place(event) {
    const r = over.getBoundingClientRect(), [cx, cy, span] = me.window;
    return [cx + ((event.clientX - r.left) / r.width - 0.5) * span, cy + ((event.clientY - r.top) / r.height - 0.5) * span];
  }

  // Places have few digits, so that the address and a saved picture name them exactly.
  function round(value) { return Math.round(value * 1e4) / 1e4; }

  function clamp(value, low, high) { return Math.min(high, Math.max(low, value)); }

  function to(at) {
    const limit = me.data.limit, [cx, cy, span] = me.window;
    me.at = [
      round(clamp(clamp(at[0], cx - span / 2, cx + span / 2), -limit, limit)),
      round(clamp(clamp(at[1], cy - span / 2, cy + span / 2), -limit, limit)),
    ];
    redraw();
  }

  function shift(centre, span = me.window[2]) {
    if (!me.data.roams) return;
    const limit = me.data.limit;
    span = clamp(span, limit / 64, limit * 2);
    const room = limit - span / 2;
    me.window = [round(clamp(centre[0], -room, room)), round(clamp(centre[1], -room, room)), round(span)];
    me.moved++;
    to(me.at);
    later(true, 60);
  }

  function zoom(factor, about = me.at) {
    const [cx, cy, span] = me.window, wide = clamp(span * factor, me.data.limit / 64, me.data.limit * 2);
    const share = wide / span;
    shift([about[0] + (cx - about[0]) * share, about[1] + (cy - about[1]) * share], wide);
  }

  function down(event) {
    over.setPointerCapture(event.pointerId);
    over.focus({ preventScroll: true });
    me.pointers.set(event.pointerId, event);
    if (me.pointers.size === 2) { me.pinch = spread(); return; }
    me.times = [];
    to(place(event));
    later();
  }

  function move(event) {
    if (!me.pointers.has(event.pointerId)) return;
    me.pointers.set(event.pointerId, event);
    if (me.pointers.size === 2) {
      const now = spread();
      if (me.pinch) zoom(me.pinch / now);
      me.pinch = now;
      return;
    }
    to(place(event));
    later();
    push(event);
  }

  function up(event) {
    me.pointers.delete(event.pointerId);
    me.pinch = 0;
    cancelAnimationFrame(me.pushing);
    me.pushing = 0;
    rested();
  }

  function spread() {
    const [a, b] = [...me.pointers.values()];
    return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) || 1;
  }

  // Moves the window on while a held pointer is at the border or beyond it.
  function push() {
    if (me.pushing || !me.data.roams) return;
    let then = performance.now();
    const step = (now) => {
      me.pushing = 0;
      const event = [...me.pointers.values()][0];
      if (!event || me.pointers.size !== 1) return;
      const r = over.getBoundingClientRect();
      const px = (event.clientX - r.left) / r.width, py = (event.clientY - r.top) / r.height;
      const pull = (p) => (p < EDGE ? Math.max(-1, (p - EDGE) * 8) : p > 1 - EDGE ? Math.min(1, (p - 1 + EDGE) * 8) : 0);
      const dx = pull(px), dy = pull(py);
      if (!dx && !dy) return;
      const [cx, cy, span] = me.window, far = span * Math.min(0.05, (now - then) / 1000) * 1.2, before = [cx, cy];
      then = now;
      const room = me.data.limit - span / 2;
      me.window = [round(clamp(cx + dx * far, -room, room)), round(clamp(cy + dy * far, -room, room)), span];
      if (me.window[0] === before[0] && me.window[1] === before[1]) return;
      me.moved++;
      to(place(event));
      const s = me.sheet?.window;
      if (s && Math.max(Math.abs(s[0] - me.window[0]), Math.abs(s[1] - me.window[1])) > span * 0.12) wish(false);
      later();
      me.pushing = requestAnimationFrame(step);
    };
    me.pushing = requestAnimationFrame(step);
  }

  function key(event) {
    const arrows = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const cell = me.window[2] / (me.sheet?.cells ?? 15);
    if (event.key in arrows) {
      const [dx, dy] = arrows[event.key];
      if (event.shiftKey) {
        shift([me.window[0] + (dx * me.window[2]) / 3, me.window[1] + (dy * me.window[2]) / 3]);
      } else {
        const next = [me.at[0] + dx * cell, me.at[1] + dy * cell], [cx, cy, span] = me.window;
        if (Math.max(Math.abs(next[0] - cx), Math.abs(next[1] - cy)) > span / 2) shift([cx + dx * span / 3, cy + dy * span / 3]);
        to(next);
        later();
      }
    } else if (event.key === "+" || event.key === "=") act("in");
    else if (event.key === "-") act("out");
    else if (event.key === "Home") act("home");
    else if (event.key === "p" && !event.ctrlKey && !event.metaKey) act("pin");
    else if (event.key === "Backspace" || (event.key === "z" && (event.ctrlKey || event.metaKey))) act("undo");
    else return;
    event.preventDefault();
  }

  function act(name) {
    if (name === "undo") {
      if (me.trail.length > 1) me.trail.pop();
      go(me.trail[me.trail.length - 1]);
    } else if (name === "pin") {
      const near = me.pins.findIndex((pin) => Math.hypot(pin[0] - me.at[0], pin[1] - me.at[1]) < me.window[2] / 60);
      if (near >= 0) me.pins.splice(near, 1);
      else if (me.pins.length < PINS) me.pins.push([...me.at]);
      wish(true);
    } else if (name === "home") {
      me.window = [...me.data.home.window];
      me.moved++;
      go(me.data.home.at);
      rested();
    } else zoom(name === "in" ? 1 / 1.5 : 1.5);
    redraw();
  }

  // Goes to a place that was visited, and moves the window where it lies outside.
  function go(at) {
    me.at = [...at];
    const [cx, cy, span] = me.window;
    if (Math.max(Math.abs(at[0] - cx), Math.abs(at[1] - cy)) > span / 2) shift(at);
    else later(true, 0);
    redraw();
  }

  function speak() {
    const [x, y] = me.at.map((value) => value.toFixed(2));
    $(".words").textContent = `Position ${x} to the right, ${y} downwards.`;
  }

  // --- Drawing ------------------------------------------------------------------------------------------------------

  function redraw() {
    if (me.frame) return;
    me.frame = requestAnimationFrame(() => { me.frame = 0; draw(); });
  }

  function measure() {
    const wide = box.clientWidth;
    if (!wide) return false;
    const stacked = wide < 300;
    $(".views").classList.toggle("stacked", stacked);
    const side = Math.floor(Math.min(me.data.side, stacked ? wide : (wide - 16) / 2));
    const [height, width] = me.data.tile;
    const fit = side / Math.max(height, width), factor = fit >= 2 ? Math.floor(fit) : fit;
    plane.style.width = plane.style.height = $(".seen").style.width = `${side}px`;
    image.style.width = `${Math.round(width * factor)}px`;
    image.style.height = `${Math.round(height * factor)}px`;
    image.classList.toggle("crisp", fit >= 2);
    me.ratio = window.devicePixelRatio || 1;
    ground.width = ground.height = over.width = over.height = Math.round(side * me.ratio);
    if (image.width !== width || image.height !== height) { image.width = width; image.height = height; }
    me.side = side;
    me.ground = -1;
    return true;
  }

  function draw() {
    if (!me.side && !measure()) return;
    if (me.data.tile[0] !== image.height || me.data.tile[1] !== image.width) measure();
    if (me.ground !== me.moved || me.groundKey !== me.sheet?.key) drawGround();
    drawOver();
    drawImage();
    $(".undo").disabled = me.trail.length < 2;
  }

  // The cells of the sheet where they lie in the window; an old sheet moves and grows with it until the new one is here.
  function drawGround() {
    const pen = ground.getContext("2d"), size = ground.width;
    pen.clearRect(0, 0, size, size);
    me.ground = me.moved;
    me.groundKey = me.sheet?.key;
    if (!me.sheet) return;
    const [cx, cy, span] = me.window, [sx, sy, wide] = me.sheet.window;
    const scale = size / span;
    pen.imageSmoothingEnabled = true;
    pen.drawImage(me.sheet.picture, size / 2 + (sx - wide / 2 - cx) * scale, size / 2 + (sy - wide / 2 - cy) * scale, wide * scale, wide * scale);
  }

  function screen(at) {
    const [cx, cy, span] = me.window, size = over.width;
    return [size / 2 + ((at[0] - cx) / span) * size, size / 2 + ((at[1] - cy) / span) * size];
  }

  function drawOver() {
    const pen = over.getContext("2d"), size = over.width, r = me.ratio;
    pen.clearRect(0, 0, size, size);
    const accent = getComputedStyle(box).getPropertyValue("--st-primary-color") || "#4b49c8";
    over.dataset.left = me.window[0];
    const trail = [...me.trail.map(screen), screen(me.at)];
    pen.lineJoin = "round";
    for (const [colour, wide] of [["rgba(0,0,0,.55)", 4 * r], ["rgba(255,255,255,.9)", 2 * r]]) {
      pen.strokeStyle = colour; pen.lineWidth = wide;
      pen.beginPath();
      trail.slice(-16).forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
      pen.stroke();
    }
    for (const [x, y] of trail.slice(-16, -1)) dot(pen, x, y, 3 * r, "#fff");
    me.pins.forEach((pin, i) => label(pen, screen(pin), String(i + 1), accent));
    for (const mark of me.data.marks) {
      const [x, y] = screen(mark.at);
      dot(pen, x, y, 3.5 * r, "#1b1d29");
      label(pen, [x, y - 20 * r], mark.label, "#1b1d29"); // above, so that the ring does not hide it
    }
    const [x, y] = screen(me.at);
    pen.lineWidth = 5 * r; pen.strokeStyle = "rgba(0,0,0,.65)"; ring(pen, x, y, 9 * r);
    pen.lineWidth = 2.5 * r; pen.strokeStyle = "#fff"; ring(pen, x, y, 9 * r);
    if (over.getRootNode().activeElement === over) dot(pen, x, y, 3 * r, accent);
  }

  function ring(pen, x, y, radius) { pen.beginPath(); pen.arc(x, y, radius, 0, 2 * Math.PI); pen.stroke(); }
  function dot(pen, x, y, radius, colour) {
    pen.beginPath(); pen.arc(x, y, radius, 0, 2 * Math.PI); pen.fillStyle = colour; pen.fill();
    pen.lineWidth = me.ratio; pen.strokeStyle = "rgba(0,0,0,.6)"; pen.stroke();
  }

  function label(pen, [x, y], text, colour) {
    const r = me.ratio;
    if (x < -9 * r || y < -9 * r || x > over.width + 9 * r || y > over.height + 9 * r) return;
    pen.font = `600 ${11 * r}px sans-serif`;
    const half = Math.max(9 * r, pen.measureText(text).width / 2 + 5 * r);
    pen.beginPath(); pen.roundRect(x - half, y - 9 * r, 2 * half, 18 * r, 9 * r);
    pen.fillStyle = colour; pen.fill(); pen.lineWidth = 1.5 * r; pen.strokeStyle = "#fff"; pen.stroke();
    pen.fillStyle = "#fff"; pen.textAlign = "center"; pen.textBaseline = "middle";
    pen.fillText(text, x, y + r * 0.5);
  }

  // The exact image where it is here; else the four nearest cells, weighted by how near they are.
  function drawImage() {
    const pen = image.getContext("2d"), [height, width] = me.data.tile;
    const e = me.exact;
    const final = e && e.plane === me.plane && e.at[0] === me.at[0] && e.at[1] === me.at[1];
    if (final) {
      pen.globalCompositeOperation = "copy"; pen.globalAlpha = 1;
      pen.drawImage(e.picture, 0, 0, width, height);
    } else if (me.sheet) {
      const { cells, picture, window: [sx, sy, wide] } = me.sheet;
      const u = clamp(((me.at[0] - sx) / wide + 0.5) * cells - 0.5, 0, cells - 1);
      const v = clamp(((me.at[1] - sy) / wide + 0.5) * cells - 0.5, 0, cells - 1);
      const c = Math.min(Math.floor(u), cells - 2), r = Math.min(Math.floor(v), cells - 2), fx = u - c, fy = v - r;
      pen.imageSmoothingEnabled = false;
      pen.globalCompositeOperation = "copy"; pen.globalAlpha = 1;
      pen.fillStyle = "#0000"; pen.fillRect(0, 0, width, height);
      pen.globalCompositeOperation = "lighter";
      for (const [dc, dr, share] of [[0, 0, (1 - fx) * (1 - fy)], [1, 0, fx * (1 - fy)], [0, 1, (1 - fx) * fy], [1, 1, fx * fy]]) {
        if (share < 0.002) continue;
        pen.globalAlpha = share;
        pen.drawImage(picture, (c + dc) * width, (r + dr) * height, width, height, 0, 0, width, height);
      }
      pen.globalAlpha = 1;
    } else return;
    const now = performance.now();
    me.times.push(now);
    if (me.times.length > 30) me.times.shift();
    image.dataset.kind = final ? "final" : "preview";
    image.dataset.drawn = String(++me.seen);
    image.setAttribute("aria-label", `${me.data.seen} at ${me.at.map((value) => value.toFixed(2)).join(", ")}`);
    $(".kind").textContent = final ? "final" : "preview";
    $(".kind").classList.toggle("final", Boolean(final));
    meter(now);
  }

  function meter(now) {
    const words = [];
    if (me.ms.model !== undefined) words.push(`model ${ms(me.ms.model)}`);
    if (me.ms.encode !== undefined) words.push(`encoding ${ms(me.ms.encode)}`);
    if (me.ms.total !== undefined) words.push(`in all ${ms(me.ms.total)}`);
    if (me.pointers.size && me.times.length > 5) {
      const rate = ((me.times.length - 1) * 1000) / (now - me.times[0]);
      words.push(`${Math.round(rate)} frames/s`);
    }
    $(".meter").textContent = words.join(" · ");
  }

  function ms(value) { return value < 9.95 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`; }
}
