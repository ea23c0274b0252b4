// A plane to drag on.
//
// The plane is shown through a window: its centre and how wide it is, in units of the plane, y downwards. A sheet holds
// the images of the cells of one window. Dragging only looks things up in the sheet that is here; the server is asked
// for a new sheet when the window moves, and for the exact image when the pointer rests. One request is under way at a
// time, and only the newest wish follows it.
const REST = 140;      // ms without a move until the exact image is asked for
const HASTE = 40;      // the same for what is heard
const PATIENCE = 8000; // ms until a request counts as lost
const PINS = 24;
const LARGEST = 8e6;   // bytes of a picture dropped here
const BETWEEN = 8;     // CSS pixels between two pictures side by side
const STACKED = 560;   // CSS pixels of width below which the picture stands above the pad
const EDGE = 0.05;     // share of the pad beside its border in which a held pointer moves the window on

function begin() {
  return {
    plane: null, at: [0, 0], window: [0, 0, 1], sheet: null, exact: null, trail: [], pins: [], sent: null, again: false, went: -1,
    pointers: new Map(), pinch: 0, moved: 0, seen: 0, times: [], ms: {},
    walk: null, time: null, wanted: false, late: false, rolls: null, held: null, hold: null,
  };
}

function show(me) {
  const { data, box, find, redraw } = me;
  const plane = find(".plane"), ground = find(".ground"), over = find(".over");
  const image = find(".image"), other = find(".other"), pair = [image, other];

  box.classList.toggle("still", !data.roams);
  over.setAttribute("aria-label", data.alt);
  box.querySelectorAll(".who").forEach((who, i) => { who.textContent = data.names?.[i] ?? ""; });
  if (find(".second").hidden === Boolean(data.names)) {
    find(".second").hidden = !data.names;
    me.resized = true;
  }
  if (data.plane !== me.plane || data.go.number !== me.went) arrive();
  if (me.sent && data.answer >= me.sent.number) answered();
  if (data.sheet && data.sheet.key !== me.sheet?.key) take("sheet", data.sheet);
  else if (!data.sheet && !me.sheet) wish(true);
  if (data.exact && data.exact.key !== me.exact?.key) take("exact", data.exact);
  if (data.walk && data.walk.key !== me.walk?.key) take("walk", data.walk);
  else if (data.walk && me.wanted && same(data.walk.at)) roll();

  over.onpointerdown = down;
  over.onpointermove = move;
  over.onpointerup = over.onpointercancel = up;
  over.onkeydown = key;
  over.onwheel = (event) => {
    if (over.getRootNode().activeElement !== over) return; // the page scrolls
    event.preventDefault();
    zoom(Math.exp(event.deltaY * 0.0015), place(event));
  };
  over.ondblclick = (event) => shift(place(event));
  over.onfocus = over.onblur = redraw;
  find(".seen").onkeydown = (event) => { if (event.target.tagName !== "BUTTON" || event.key !== " ") key(event); };
  find(".seen").onfullscreenchange = () => { me.resized = true; redraw(); };
  for (const one of pair) one.onpointerdown = one.onpointermove = one.onpointerup = one.onpointercancel = pull;
  find(".full").hidden = !document.fullscreenEnabled;
  box.ondragover = (event) => event.preventDefault();
  box.ondrop = (event) => { event.preventDefault(); drop(event.dataTransfer.files[0]); };
  for (const button of box.querySelectorAll("button")) button.onclick = () => act(button.dataset.act);
  return draw;

  // --- What comes from the server -----------------------------------------------------------------------------------

  // Goes where the server says: another plane, a link, a restored picture.
  function arrive() {
    if (data.plane !== me.plane) {
      me.trail = [];
      me.exact = null;
      if (me.sheet && me.sheet.plane !== data.plane) me.sheet = null;
    }
    if (me.time !== null) halt();
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
    me.drop("lost");
    me.ms = { ...data.ms };
    if (me.answer.walks && !data.walk) halt(); // it was refused
    if (me.again) { me.again = false; wish(me.rest); }
  }

  function take(what, got) {
    const asked = me.answer, both = [got, got.second].filter(Boolean);
    Promise.all(both.map(load)).then(([picture, beside]) => {
      if (got.plane !== me.plane) return;
      me[what] = { ...got, picture, second: got.second && { ...got.second, picture: beside } };
      time(asked, what);
      if (what === "sheet") me.moved++;
      if (what === "walk" && (me.wanted || me.late) && same(got.at)) roll();
      redraw();
    }, () => {});
  }

  function load({ src }) {
    const picture = new Image();
    picture.src = src;
    return picture.decode().then(() => picture);
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
    me.sent = { number: me.number, when: performance.now(), walks: me.wanted };
    me.after("lost", PATIENCE, () => { me.sent = null; me.late = me.wanted; me.wanted = false; redraw(); if (me.again) { me.again = false; wish(me.rest); } });
    me.tell("view", {
      number: me.number, plane: me.plane, at: me.at, window: me.window, pins: me.pins, rest,
      has: me.sheet?.key ?? "", went: me.went, walks: me.wanted,
    });
  }

  // A picture that was saved here brings its view back.
  async function drop(file) {
    if (!file || file.size > LARGEST) return;
    const bytes = new Uint8Array(await file.arrayBuffer());
    let text = "";
    for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    me.trigger("dropped", { content: btoa(text) });
  }

  function rested() {
    me.drop("rest");
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
    me.after("rest", wait, rest ? rested : () => wish(false));
  }

  // --- Moving -------------------------------------------------------------------------------------------------------

  function place(event) {
    const [x, y] = share(event, over), [cx, cy, span] = me.window;
    return [cx + (x - 0.5) * span, cy + (y - 0.5) * span];
  }

  // Places have few digits, so that the address and a saved picture name them exactly.
  function round(value) { return Math.round(value * 1e4) / 1e4; }

  function to(at) {
    const limit = me.data.limit, [cx, cy, span] = me.window, before = me.at;
    me.at = [
      round(clamp(clamp(at[0], cx - span / 2, cx + span / 2), -limit, limit)),
      round(clamp(clamp(at[1], cy - span / 2, cy + span / 2), -limit, limit)),
    ];
    if (me.at[0] !== before[0] || me.at[1] !== before[1]) halt();
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
    if (data.instant) wish(true);
    else later();
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
    later(true, data.instant ? HASTE : REST);
    push(event);
  }

  function up(event) {
    me.pointers.delete(event.pointerId);
    me.pinch = 0;
    me.drop("push");
    rested();
  }

  function spread() {
    const [a, b] = [...me.pointers.values()];
    return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) || 1;
  }

  // Moves the window on while a held pointer is at the border or beyond it.
  function push() {
    if (me.waits("push") || !me.data.roams) return;
    let then = performance.now();
    const step = (now) => {
      const event = [...me.pointers.values()][0];
      if (!event || me.pointers.size !== 1) return;
      const [px, py] = share(event, over);
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
      me.frame("push", step);
    };
    me.frame("push", step);
  }

  function key(event) {
    const cell = me.window[2] / (me.sheet?.cells ?? 15);
    if (event.key in ARROWS) {
      const [dx, dy] = ARROWS[event.key];
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
    else if (event.key === " ") act("play");
    else if (event.key === "Backspace" || (event.key === "z" && (event.ctrlKey || event.metaKey))) act("undo");
    else return;
    event.preventDefault();
  }

  function act(name) {
    if (name === "play") play();
    else if (name === "stay") stay();
    else if (name === "full") full();
    else if (name === "undo") {
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
    halt();
    me.at = [...at];
    const [cx, cy, span] = me.window;
    if (Math.max(Math.abs(at[0] - cx), Math.abs(at[1] - cy)) > span / 2) shift(at);
    else later(true, 0);
    redraw();
  }

  // --- A walk, and the picture alone --------------------------------------------------------------------------------

  // Plays the walk that begins and ends at the ring, or holds it; the server is asked for one once.
  function play() {
    if (me.wanted) halt();
    else if (me.waits("walk")) { me.drop("walk"); redraw(); }
    else if (me.time !== null || (me.walk?.plane === me.plane && same(me.walk.at))) roll();
    else { me.wanted = true; wish(true); redraw(); }
  }

  function roll() {
    me.wanted = me.late = false;
    const frames = me.walk.cells ** 2, pace = (me.walk.seconds * 1000) / frames;
    const from = me.time ?? 0, began = performance.now();
    const tick = (now) => {
      me.time = (from + Math.max(0, now - began) / pace) % frames;
      me.frame("walk", tick);
      drawImage();
    };
    me.frame("walk", tick);
    redraw();
  }

  // Leaves the walk: the picture is again that of the ring.
  function halt() {
    me.wanted = me.late = false;
    me.time = null;
    me.drop("walk");
  }

  // Lets the pad begin at the moment that is shown.
  function stay() {
    const number = Math.max(Date.now(), me.number + 1), { plane, at, cells } = me.walk;
    me.number = number;
    me.trigger("stayed", { number, plane, at, share: me.time / cells ** 2 });
  }

  function same(at) { return at[0] === me.at[0] && at[1] === me.at[1]; }

  function full() {
    if (find(".seen").matches(":fullscreen")) document.exitFullscreen();
    else find(".seen").requestFullscreen().catch(() => {});
  }

  // With the picture alone on the screen there is no pad to drag on, so it is dragged on itself.
  function pull(event) {
    if (!find(".seen").matches(":fullscreen")) return;
    if (event.type === "pointerdown") {
      event.target.setPointerCapture(event.pointerId);
      me.hold = [event.clientX, event.clientY];
    } else if (event.type !== "pointermove") {
      if (me.hold) rested();
      me.hold = null;
    } else if (me.hold) {
      const wide = me.window[2] / image.clientWidth, [x, y] = me.hold;
      me.hold = [event.clientX, event.clientY];
      to([me.at[0] + (event.clientX - x) * wide, me.at[1] + (event.clientY - y) * wide]);
      later();
    }
  }

  function speak() {
    const [x, y] = me.at.map((value) => value.toFixed(2));
    find(".words").textContent = `Position ${x} to the right, ${y} downwards.`;
  }

  // --- Drawing ------------------------------------------------------------------------------------------------------

  function measure() {
    const wide = box.clientWidth;
    if (!wide) return false;
    const stacked = wide < STACKED, alone = find(".seen").matches(":fullscreen");
    find(".views").classList.toggle("stacked", stacked);
    const count = me.data.names ? 2 : 1, gaps = BETWEEN * (count - 1);
    const beside = Math.floor(Math.min(me.data.side, (wide - 16 - gaps) / (1 + count)));
    const row = Math.floor(((alone ? innerWidth : wide) - gaps) / count);
    const shown = alone ? Math.min(row, innerHeight - 64 * count) : stacked ? row : beside;
    // the picture stays in sight while a finger is on the pad below it
    const side = stacked ? Math.floor(clamp(innerHeight - shown - 120, 200, wide)) : beside;
    const [height, width] = me.data.tile;
    const fit = shown / Math.max(height, width), factor = fit >= 2 && !me.smooth ? Math.floor(fit) : fit;
    plane.style.width = plane.style.height = `${side}px`;
    find(".seen").style.width = alone ? "" : `${shown * count + gaps}px`;
    for (const one of pair) {
      one.style.width = one.parentElement.style.width = `${Math.round(width * factor)}px`;
      one.style.height = `${Math.round(height * factor)}px`;
      one.classList.toggle("crisp", fit >= 2 && !me.smooth);
      if (one.width !== width || one.height !== height) { one.width = width; one.height = height; }
    }
    me.smoothed = me.smooth;
    me.dots = me.ratio();
    ground.width = ground.height = over.width = over.height = Math.round(side * me.dots);
    me.resized = false;
    me.ground = -1;
    return true;
  }

  function draw() {
    if ((me.resized || me.smoothed !== me.smooth) && !measure()) return;
    if (me.data.tile[0] !== image.height || me.data.tile[1] !== image.width) measure();
    if (me.ground !== me.moved || me.groundKey !== me.sheet?.key) drawGround();
    drawOver();
    drawImage();
    find(".undo").disabled = me.trail.length < 2;
    const rolls = me.wanted || me.waits("walk"), held = !rolls && me.time !== null;
    if (me.rolls !== rolls || me.held !== held) {
      find(".play").textContent = rolls ? "❚❚" : "▶";
      find(".stay").hidden = !held;
      [me.rolls, me.held] = [rolls, held];
    }
    find(".play").classList.toggle("waits", me.wanted);
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
    const pen = over.getContext("2d"), size = over.width, r = me.dots;
    pen.clearRect(0, 0, size, size);
    const accent = me.accent();
    over.dataset.left = me.window[0];
    const trail = [...me.trail.map(screen), screen(me.at)];
    const recent = trail.slice(-16);
    line(pen, recent, "rgba(0,0,0,.55)", 4 * r);
    line(pen, recent, "rgba(255,255,255,.9)", 2 * r);
    for (const [x, y] of recent.slice(0, -1)) dot(pen, x, y, 3 * r, "#fff");
    me.pins.forEach((pin, i) => label(pen, screen(pin), String(i + 1), accent, me.onAccent()));
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
    pen.lineWidth = me.dots; pen.strokeStyle = "rgba(0,0,0,.6)"; pen.stroke();
  }

  function label(pen, [x, y], text, colour, ink) {
    const far = 9 * me.dots;  // one outside is not drawn
    if (x > -far && y > -far && x < over.width + far && y < over.height + far) pill(pen, [x, y], text, colour, me.dots, ink);
  }

  function drawImage() {
    const walks = me.time !== null, final = !walks && me.exact?.plane === me.plane && same(me.exact.at);
    const shown = walks ? me.walk : final ? me.exact : me.sheet;
    if (!shown) return;
    paint(image, shown, walks, final);
    const place = me.at.map((value) => value.toFixed(2)).join(", ");
    if (me.data.names && shown.second) {
      paint(other, shown.second, walks, final);
      other.setAttribute("aria-label", `Image of ${me.data.names[1]} at ${place}`);
    }
    const now = performance.now();
    me.times.push(now);
    if (me.times.length > 30) me.times.shift();
    const kind = walks ? "walk" : final ? "final" : "preview";
    image.dataset.kind = kind;
    image.dataset.drawn = String(++me.seen);
    image.setAttribute("aria-label", `${me.data.seen} at ${place}`);
    find(".kind").textContent = kind;
    find(".kind").classList.toggle("final", Boolean(final));
    meter(now);
  }

  // The walk's moment, or the exact image where it is here; else the four nearest cells, weighted by how near they are.
  function paint(canvas, { picture, cells }, walks, final) {
    const pen = canvas.getContext("2d"), [height, width] = me.data.tile;
    if (walks) {
      const frames = cells ** 2, time = (me.time * frames) / me.walk.cells ** 2, first = Math.floor(time);
      const cell = (frame, share) => [frame % cells, Math.floor(frame / cells), share];
      mix(pen, picture, [cell(first, 1 - time + first), cell((first + 1) % frames, time - first)]);
    } else if (final) {
      pen.globalCompositeOperation = "copy"; pen.globalAlpha = 1;
      pen.drawImage(picture, 0, 0, width, height);
    } else {
      const [sx, sy, wide] = me.sheet.window;
      const u = clamp(((me.at[0] - sx) / wide + 0.5) * cells - 0.5, 0, cells - 1);
      const v = clamp(((me.at[1] - sy) / wide + 0.5) * cells - 0.5, 0, cells - 1);
      const c = Math.min(Math.floor(u), cells - 2), r = Math.min(Math.floor(v), cells - 2), fx = u - c, fy = v - r;
      mix(pen, picture, [
        [c, r, (1 - fx) * (1 - fy)], [c + 1, r, fx * (1 - fy)], [c, r + 1, (1 - fx) * fy], [c + 1, r + 1, fx * fy],
      ]);
    }
  }

  // Cells of a sheet (column, row, share of the whole), one over the other.
  function mix(pen, picture, parts) {
    const [height, width] = me.data.tile;
    pen.imageSmoothingEnabled = false;
    pen.globalCompositeOperation = "copy"; pen.globalAlpha = 1;
    pen.fillStyle = "#0000"; pen.fillRect(0, 0, width, height);
    pen.globalCompositeOperation = "lighter";
    for (const [column, row, share] of parts) {
      if (share < 0.002) continue;
      pen.globalAlpha = share;
      pen.drawImage(picture, column * width, row * height, width, height, 0, 0, width, height);
    }
    pen.globalAlpha = 1;
  }

  function meter(now) {
    const { model, encode, total } = me.ms, words = [];  // the whole wait in words, its parts under the pointer
    if (total !== undefined) words.push(`answered in ${ms(total)}`);
    else if (model !== undefined) words.push(`drawn in ${ms(model)}`);
    const parts = [["model", model], ["making the PNG", encode]].filter(([, time]) => time !== undefined);
    find(".meter").title = parts.map(([name, time]) => `${name} ${ms(time)}`).join(", ");
    if (me.pointers.size && me.times.length > 5) {
      const rate = ((me.times.length - 1) * 1000) / (now - me.times[0]);
      words.push(`${Math.round(rate)} frames/s`);
    }
    find(".meter").textContent = words.join(" · ");
  }

  function ms(value) { return value < 9.95 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`; }
}
