// A map of points: places by view, codes by trait, and a sheet of thumbnails; perhaps a ground, any place of which is asked for.
const NEIGHBOURS = 24;  // that a click or Enter takes
const REACH = 14;  // CSS pixels from the pointer to a point that it rests on
const WHITE = [255, 255, 255];
const MARGIN = 8;  // CSS pixels around all points
const THUMB = 34;  // CSS pixels of a thumbnail, about
const MARKS = ["auto", "dots", "pictures"];  // auto: pictures as soon as there is room, but not on a ground

function begin() { return { look: null, tool: "select", alone: -1, hover: -1, path: null, chosen: null, cursor: null, painted: 0 }; }

function show(me) {
  const { data, box, find } = me;
  const bar = find(".bar"), stage = find(".stage"), legend = find(".legend"), said = find(".said");
  const base = find("canvas.points"), over = find("canvas.over"), card = find(".card");
  const [words, facts, columns] = unpack(data);

  me.look ??= words.look;
  me.smooth = words.smooth;
  card.classList.toggle("smooth", me.smooth);
  me.load([words.ground]);
  if (me.version !== facts.version) {
    me.version = facts.version;
    if (me.id !== facts.id) Object.assign(me, { id: facts.id, hover: -1, chosen: null, sheet: null, places: null });
    me.alone = -1;
    me.columns = columns();
    const bytes = me.columns.sheet;
    if (bytes.length && !me.sheet) {
      createImageBitmap(new Blob([bytes])).then((sheet) => { if (me.id === facts.id) { me.sheet = sheet; me.redraw(); } });
    }
  }
  const chosen = (kind, names) => (names.includes(me.look[kind]) ? me.look[kind] : names[0]);
  me.view = facts.views.findIndex((v) => v.name === chosen("view", facts.views.map((v) => v.name)));
  me.trait = facts.traits.findIndex((t) => t.title === chosen("colour", facts.traits.map((t) => t.title)));
  me.marks = chosen("marks", MARKS);
  if (me.shown !== facts.id + me.view) { me.shown = facts.id + me.view; whole(); }

  stage.style.height = `${words.height}px`;
  stage.style.maxWidth = words.ground ? `${words.height}px` : "";
  over.tabIndex = 0;
  over.setAttribute("role", "application");
  over.setAttribute("aria-label", `${words.alt}. ` + (words.ground
    ? "Arrow keys move a cross, Enter takes the place under it, "
    : "Arrow keys go from point to point, Enter takes a point and its neighbours, ") + "plus and minus zoom, Escape lets go.");
  base.setAttribute("aria-hidden", "true");
  over.onpointerdown = down;
  over.onpointermove = move;
  over.onpointerup = up;
  over.onpointercancel = () => { me.path = null; mark(); };
  over.onpointerleave = () => { if (!me.path) rest(-1); };
  over.onwheel = (event) => {
    if (me.tool !== "move" && !event.ctrlKey) return;  // the page scrolls
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
  };
  over.onkeydown = key;
  over.onblur = () => { me.cursor = null; me.hover = -1; mark(); };
  tools();
  return paint;

  // --- What arrives: words, facts, then the columns and the sheet of thumbnails -----------------------------------

  function unpack(bytes) {
    const whole = bytes.slice().buffer;
    const sizes = new DataView(whole);
    const text = (from, size) => JSON.parse(new TextDecoder().decode(new Uint8Array(whole, from, size)));
    const first = sizes.getUint32(0, true), second = sizes.getUint32(4 + first, true);
    const facts = text(8 + first, second);
    const columns = () => {
      let at = 8 + first + second;
      const take = (size) => { const part = whole.slice(at, at + size); at += size; return part; };
      return {
        places: facts.views.map(() => new Float32Array(take(8 * facts.count))),
        codes: facts.traits.map(() => new Uint16Array(take(2 * facts.count))),
        hollow: new Uint8Array(take(facts.count)),
        sheet: new Uint8Array(whole.slice(at)),
      };
    };
    return [text(4, first), facts, columns];
  }

  // --- Controls ---------------------------------------------------------------------------------------------------

  function tools() {
    bar.replaceChildren();
    const group = (title, names, now, act) => {
      if (names.length < 2) return;
      const all = document.createElement("span");
      all.className = "group";
      all.setAttribute("role", "group");
      all.setAttribute("aria-label", title);
      const label = document.createElement("span");
      label.textContent = title;
      all.append(label, ...names.map((name, i) => button(name, i === now, () => act(i))));
      bar.append(all);
    };
    group("Colour", facts.traits.map((t) => t.title), me.trait, (i) => change({ colour: facts.traits[i].title }));
    group("Arranged by", facts.views.map((v) => v.name), me.view, (i) => change({ view: facts.views[i].name }));
    if (me.columns.sheet.length) group("Show", ["Automatic", "Dots", "Pictures"], MARKS.indexOf(me.marks), (i) => change({ marks: MARKS[i] }));
    group("Drag to", ["Select", "Move"], me.tool === "select" ? 0 : 1, (i) => { me.tool = ["select", "move"][i]; tools(); });
    const zooms = document.createElement("span");
    zooms.className = "group";
    const middle = () => [stage.clientWidth / 2, stage.clientHeight / 2];
    zooms.append(
      button("−", null, () => zoom(0.7, ...middle()), "Zoom out"),
      button("+", null, () => zoom(1.4, ...middle()), "Zoom in"),
      button("All", null, () => { whole(); paint(); }, "Show the whole map"),
    );
    bar.append(zooms);
    over.classList.toggle("moves", me.tool === "move");
    names();
  }

  function button(text, pressed, act, label) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.onclick = act;
    if (pressed !== null) made.setAttribute("aria-pressed", String(pressed));
    if (label) { made.setAttribute("aria-label", label); made.title = label; }
    return made;
  }

  function change(look) {
    me.look = { ...me.look, ...look };
    me.view = look.view ? facts.views.findIndex((v) => v.name === look.view) : me.view;
    if (look.colour) { me.trait = facts.traits.findIndex((t) => t.title === look.colour); me.alone = -1; }
    me.marks = look.marks ?? me.marks;
    if (me.shown !== facts.id + me.view) { me.shown = facts.id + me.view; whole(); }
    tools();
    paint();
    me.tell("look", {
      view: facts.views[me.view].name, colour: facts.traits[me.trait].title, marks: me.marks,
    });
  }

  function names() {
    const counts = new Map();
    for (const code of me.columns.codes[me.trait]) counts.set(code, (counts.get(code) ?? 0) + 1);
    legend.replaceChildren(...facts.traits[me.trait].names.flatMap((name, code) => {
      if (!counts.has(code) || !name) return [];
      const made = button("", me.alone === code, () => { me.alone = me.alone === code ? -1 : code; names(); paint(); },
        `${name}: ${counts.get(code)}; press to see these alone`);
      made.append(spotted(css(code)), `${name} (${counts.get(code).toLocaleString("en")})`);
      return [made];
    }));
  }

  // --- Geometry ---------------------------------------------------------------------------------------------------

  function whole() {
    const [left, top, right, bottom] = words.ground ? [0, 0, 1, 1] : facts.views[me.view].fit;
    me.sight = null;
    me.wanted = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top];
  }

  function sight() {  // centre in the units of the projection, and CSS pixels per unit; all of it until somebody moves
    if (me.sight) return me.sight;
    const [x, y, w, h] = me.wanted, margin = words.ground ? 0 : 2 * MARGIN;
    return { x, y, scale: Math.min((stage.clientWidth - margin) / w, (stage.clientHeight - margin) / h) };
  }

  function spot([x, y]) {  // of a place, in CSS pixels
    const s = sight();
    return [(x - s.x) * s.scale + stage.clientWidth / 2, (y - s.y) * s.scale + stage.clientHeight / 2];
  }

  function under(x, y) {  // the place there
    const s = sight();
    return [(x - stage.clientWidth / 2) / s.scale + s.x, (y - stage.clientHeight / 2) / s.scale + s.y];
  }

  function zoom(by, x, y) {
    const f = (me.sight = sight());
    const dx = x - stage.clientWidth / 2, dy = y - stage.clientHeight / 2;
    f.x += dx / f.scale - dx / (f.scale * by);
    f.y += dy / f.scale - dy / (f.scale * by);
    f.scale *= by;
    paint();
  }

  function place() {  // of every point on the stage, in CSS pixels
    const f = sight(), at = me.columns.places[me.view], n = facts.count;
    const places = me.places && me.places.length === 2 * n ? me.places : (me.places = new Float32Array(2 * n));
    const cx = stage.clientWidth / 2 - f.x * f.scale, cy = stage.clientHeight / 2 - f.y * f.scale;
    for (let i = 0; i < n; i++) {
      places[2 * i] = at[2 * i] * f.scale + cx;
      places[2 * i + 1] = at[2 * i + 1] * f.scale + cy;
    }
    return places;
  }

  function open(i) { return me.alone < 0 || me.columns.codes[me.trait][i] === me.alone; }

  function nearest(x, y, reach, fits = () => true) {
    let best = -1, least = reach * reach;
    for (let i = 0; i < facts.count; i++) {
      const dx = me.places[2 * i] - x, dy = me.places[2 * i + 1] - y, d = dx * dx + dy * dy;
      if (d < least && open(i) && fits(dx, dy, i)) { least = d; best = i; }
    }
    return best;
  }

  // --- Drawing: points are set into the pixels themselves, which is quicker than any drawing call --------------------

  function colours() {
    const style = getComputedStyle(box);
    const own = facts.traits[me.trait].colours, themes = style.getPropertyValue("--st-chart-categorical-colors");
    const list = own.length ? own : themes.split(/,(?![^(]*\))/).filter((colour) => colour.trim());
    const text = list.join() + style.getPropertyValue("--st-secondary-background-color");
    if (me.palette?.text !== text) {
      const pen = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
      const rgb = (colour) => {
        pen.fillStyle = colour.trim();
        pen.fillRect(0, 0, 1, 1);
        return [...pen.getImageData(0, 0, 1, 1).data.slice(0, 3)];
      };
      me.palette = { text, list: list.map(rgb), ground: rgb(style.getPropertyValue("--st-secondary-background-color")) };
    }
    return me.palette.list;
  }

  function css(code) { return `rgb(${colours()[code % colours().length].join(" ")})`; }

  function disc(radius, width, inner = 0) {  // the offsets of its pixels
    const spots = [];
    const r = Math.ceil(radius);
    for (let y = -r; y <= r; y++) {
      for (let x = -r; x <= r; x++) {
        const far = Math.hypot(x, y);
        if (far <= radius && far >= inner) spots.push(y * width + x);
      }
    }
    return spots;
  }

  function order() {  // quiet ones below, then by code: what is drawn last is seen
    const key = facts.version + me.trait;
    if (me.ordered?.key !== key) {
      const codes = me.columns.codes[me.trait], quiet = new Set(facts.traits[me.trait].quiet);
      const one = facts.traits[me.trait].names.length > 4 || !quiet.size;  // no group on top of another
      const rank = (i) => (quiet.has(codes[i]) ? 0 : 1) * 1e6 + (one ? (i * 7919) % facts.count : codes[i] * 1e3);
      const ranks = Float64Array.from({ length: facts.count }, (_, i) => rank(i));
      me.ordered = { key, list: Uint32Array.from(ranks.keys()).sort((a, b) => ranks[a] - ranks[b]) };
    }
    return me.ordered.list;
  }

  function paint() {
    const ratio = me.ratio();
    const width = Math.round(stage.clientWidth * ratio), height = Math.round(stage.clientHeight * ratio);
    if (!width || !height) return;
    const began = performance.now();
    for (const canvas of [base, over]) if (sized(canvas, width, height, ratio)) me.image = null;
    const pen = base.getContext("2d"), palette = colours();
    if (words.ground) ground(pen, ratio);
    else me.image ??= pen.createImageData(width, height);
    const pixels = new Uint32Array(me.image.data.buffer), [r, g, b] = me.palette.ground;
    if (!words.ground) pixels.fill((255 << 24) | (b << 16) | (g << 8) | r);
    const places = place();
    const codes = me.columns.codes[me.trait], hollow = me.columns.hollow, quiet = new Set(facts.traits[me.trait].quiet);
    const radius = (facts.count > 6000 ? 2.2 : facts.count > 1500 ? 2.8 : 3.6) * ratio, edge = Math.ceil(radius + 2 * ratio);
    const rim = (words.ground ? 2 : 1.3) * ratio;
    const spots = [radius, radius + ratio].map((r) => [disc(r, width), disc(r, width, r - rim), disc(r + ratio, width)]);
    const pictured = me.sheet && (me.marks === "pictures" || (me.marks === "auto" && !words.ground && roomy()));
    const faint = pictured ? 0.35 : 1;
    for (const i of order()) {
      const x = Math.round(places[2 * i] * ratio), y = Math.round(places[2 * i + 1] * ratio);
      if (!(x >= edge && y >= edge && x < width - edge && y < height - edge)) continue;  // nan is nowhere
      const shown = me.chosen ? me.chosen[i] : open(i) ? 1 : 0;
      const part = Math.round(256 * faint * (shown ? (quiet.has(codes[i]) && !me.chosen ? 0.3 : 0.85) : 0.07));
      const [full, ring, halo] = spots[quiet.size && !quiet.has(codes[i]) ? 1 : 0], start = y * width + x;
      if (words.ground) blend(pixels, start, halo, WHITE, part);
      blend(pixels, start, hollow[i] ? ring : full, palette[codes[i] % palette.length], part);
    }
    pen.putImageData(me.image, 0, 0);
    if (pictured) thumbnails(pen, ratio);
    mark();
    base.dataset.pictured = String(Boolean(pictured));
    base.dataset.drawn = String(++me.painted);
    base.dataset.milliseconds = (performance.now() - began).toFixed(1);
  }

  // Sets a colour over pixels, which are opaque, in parts of 256.
  function blend(pixels, start, spots, [red, green, blue], part) {
    const rest = 256 - part, redBlue = (red | (blue << 16)) * part, middle = (green << 8) * part;
    for (const spot of spots) {
      const old = pixels[start + spot];
      pixels[start + spot] = 0xff000000 | ((((old & 0xff00ff) * rest + redBlue) / 256) & 0xff00ff)
        | ((((old & 0xff00) * rest + middle) / 256) & 0xff00);
    }
  }

  // The picture below the points, faintly, so that they stand out.
  function ground(pen, ratio) {
    const picture = me.picture(words.ground), [left, top] = spot([0, 0]), side = sight().scale * ratio;
    pen.fillStyle = me.colour("secondary-background-color");
    pen.fillRect(0, 0, base.width, base.height);
    pen.globalAlpha = 0.55;
    if (picture) pen.drawImage(picture, left * ratio, top * ratio, side, side);
    pen.globalAlpha = 1;
    me.image = pen.getImageData(0, 0, base.width, base.height);
  }

  function roomy() {  // whether so few points are in sight that there would be a place for the picture of each
    let seen = 0;
    for (let i = 0; i < facts.count; i++) {
      const x = me.places[2 * i], y = me.places[2 * i + 1];
      seen += x >= 0 && y >= 0 && x <= stage.clientWidth && y <= stage.clientHeight && open(i);
    }
    return seen * THUMB ** 2 < stage.clientWidth * stage.clientHeight;
  }

  function thumbnails(pen, ratio) {  // one per cell, so that none covers another
    const [height, width] = facts.tile;
    const side = Math.max(1, Math.round((THUMB * ratio) / Math.max(height, width)));
    const w = Math.max(height, width) > 48 ? 40 * ratio : width * side, h = (w * height) / width;
    const taken = new Map(), quiet = new Set(facts.traits[me.trait].quiet);
    for (let i = 0; i < facts.count; i++) {
      const x = me.places[2 * i] * ratio, y = me.places[2 * i + 1] * ratio;
      if (!(x >= 0 && y >= 0 && x <= base.width && y <= base.height) || !(me.chosen ? me.chosen[i] : open(i))) continue;
      const column = Math.floor(x / (w + 4)), row = Math.floor(y / (h + 4)), cell = row * 10000 + column;
      const loud = quiet.size && !quiet.has(me.columns.codes[me.trait][i]);  // what is wrong is seen first
      const far = Math.hypot(x - (column + 0.5) * (w + 4), y - (row + 0.5) * (h + 4)) - (loud ? 1e4 : 0);
      if (!taken.has(cell) || far < taken.get(cell).far) taken.set(cell, { far, i, x: column * (w + 4) + 2, y: row * (h + 4) + 2 });
    }
    me.enlarge(pen, w / width);
    for (const { i, x, y } of taken.values()) {
      picture(pen, i, x, y, w, h);
      pen.strokeStyle = css(me.columns.codes[me.trait][i]);
      pen.lineWidth = 2 * ratio;
      pen.setLineDash(me.columns.hollow[i] ? [2 * ratio, 2 * ratio] : []);
      pen.strokeRect(x, y, w, h);
    }
    pen.setLineDash([]);
  }

  function picture(pen, i, x, y, w, h) {
    const [height, width] = facts.tile;
    pen.drawImage(me.sheet, (i % facts.columns) * width, Math.floor(i / facts.columns) * height, width, height, x, y, w, h);
  }

  function mark() {  // what moves with the pointer: the lasso, the point under it and its picture
    const ratio = me.ratio(), pen = over.getContext("2d"), accent = me.accent();
    const scaled = (places) => places.map(([x, y]) => [x * ratio, y * ratio]);
    pen.clearRect(0, 0, over.width, over.height);
    if (words.path.length > 1) {
      const path = scaled(words.path.map(spot));
      line(pen, path, "#fff", 5 * ratio);
      line(pen, path, accent, 2.5 * ratio);
    }
    if (me.path && me.tool === "select") line(pen, scaled([...me.path, me.path[0]]), accent, 2 * ratio);
    for (const { label, at } of words.marks) pill(pen, scaled([spot(at)])[0], label, accent, ratio, me.onAccent());
    if (me.cursor) pill(pen, scaled([spot(me.cursor)])[0], "+", "#1b1d29", ratio);
    over.dataset.hover = String(me.hover);
    card.hidden = me.hover < 0 || !me.places;
    if (card.hidden) return;
    const x = me.places[2 * me.hover], y = me.places[2 * me.hover + 1];
    pen.strokeStyle = accent;
    pen.lineWidth = 2 * ratio;
    pen.beginPath();
    pen.arc(x * ratio, y * ratio, 6 * ratio, 0, 7);
    pen.stroke();
    card.querySelector("canvas").hidden = !me.sheet;
    if (me.sheet) enlarge();
    card.querySelector("p").textContent = about(me.hover);
    const right = x + 14 + card.offsetWidth > stage.clientWidth, low = y + 14 + card.offsetHeight > stage.clientHeight;
    card.style.transform = `translate(${Math.max(0, right ? x - 14 - card.offsetWidth : x + 14)}px, `
      + `${Math.max(0, low ? y - 14 - card.offsetHeight : y + 14)}px)`;
  }

  function enlarge() {  // the thumbnail of the point under the pointer
    const [height, width] = facts.tile, big = Math.max(1, Math.round(96 / Math.max(height, width)));
    const view = card.querySelector("canvas");
    view.width = width;
    view.height = height;
    view.style.width = `${width * big}px`;
    view.style.height = `${height * big}px`;
    picture(view.getContext("2d"), me.hover, 0, 0, width, height);
  }

  function about(i) {  // "generated" is not told beside "generated, realistic"
    const names = facts.traits.map((t, k) => t.names[me.columns.codes[k][i]] ?? "").filter(Boolean);
    const told = names.filter((name) => !names.some((other) => other !== name && other.startsWith(name)));
    return [facts.titles[i], ...told].filter(Boolean).join(" · ");
  }

  // --- Pointer and keys -------------------------------------------------------------------------------------------

  function rest(i) { if (i !== me.hover) { me.hover = i; mark(); } }

  function down(event) {
    if (event.button) return;
    over.setPointerCapture(event.pointerId);
    me.path = [[event.offsetX, event.offsetY]];
    me.grab = [event.offsetX, event.offsetY];
  }

  function move(event) {
    const { offsetX: x, offsetY: y } = event;
    if (!me.path) { if (me.places) rest(nearest(x, y, REACH)); return; }
    me.path.push([x, y]);
    if (me.tool === "move") {
      const f = (me.sight = sight());
      f.x -= (x - me.grab[0]) / f.scale;
      f.y -= (y - me.grab[1]) / f.scale;
      me.grab = [x, y];
      me.hover = -1;
      paint();
    } else mark();
  }

  function up(event) {
    const path = me.path;
    me.path = null;
    if (!path || !me.places) return;
    const xs = path.map((p) => p[0]), ys = path.map((p) => p[1]);
    const small = Math.max(...xs) - Math.min(...xs) < 5 && Math.max(...ys) - Math.min(...ys) < 5;
    if (small && words.ground) take(null, under(event.offsetX, event.offsetY));
    else if (small) {
      const i = nearest(event.offsetX, event.offsetY, REACH);
      i < 0 ? take(null) : take(around(i));
    } else if (me.tool === "select") {
      const inside = [];
      for (let i = 0; i < facts.count; i++) if (open(i) && within(path, me.places[2 * i], me.places[2 * i + 1])) inside.push(i);
      take(inside.length ? inside : null);
    }
  }

  function within(path, x, y) {
    let odd = false;
    for (let i = 0, j = path.length - 1; i < path.length; j = i++) {
      const [ax, ay] = path[i], [bx, by] = path[j];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
    }
    return odd;
  }

  function around(i) {
    const x = me.places[2 * i], y = me.places[2 * i + 1];
    const far = (k) => (me.places[2 * k] - x) ** 2 + (me.places[2 * k + 1] - y) ** 2;
    const all = [];
    for (let k = 0; k < facts.count; k++) if (open(k) && far(k) >= 0) all.push([far(k), k]);
    return all.sort((a, b) => a[0] - b[0]).slice(0, NEIGHBOURS).map((pair) => pair[1]);
  }

  function take(indices, at) {  // points, a place of the ground, or neither
    me.chosen = indices ? new Uint8Array(facts.count) : null;
    for (const i of indices ?? []) me.chosen[i] = 1;
    said.textContent = indices ? `${indices.length.toLocaleString("en")} selected. Click beside the points to let go.` : "";
    paint();
    me.tell("picked", indices ? { of: facts.id, indices } : at ? { of: facts.id, at } : null);
  }

  function key(event) {
    const middle = [stage.clientWidth / 2, stage.clientHeight / 2];
    if (event.key in ARROWS) step(ARROWS[event.key], middle);
    else if ((event.key === "Enter" || event.key === " ") && words.ground) take(null, me.cursor ?? under(...middle));
    else if (event.key === "Enter" && me.hover >= 0) take(around(me.hover));
    else if (event.key === "Escape") take(null);
    else if (event.key === "+" || event.key === "=") zoom(1.4, ...middle);
    else if (event.key === "-") zoom(0.7, ...middle);
    else return;
    event.preventDefault();
  }

  function step([wx, wy], middle) {  // the cross on the ground, or to the next point
    if (words.ground) {
      const [x, y] = me.cursor ?? under(...middle), far = 0.02 * stage.clientWidth / sight().scale;
      me.cursor = [clamp(x + wx * far, 0, 1), clamp(y + wy * far, 0, 1)];
      mark();
      return;
    }
    const from = me.hover, [x, y] = from < 0 ? middle : [me.places[2 * from], me.places[2 * from + 1]];
    const ahead = (dx, dy, i) => i !== from && dx * wx + dy * wy > Math.abs(dx * wy) + Math.abs(dy * wx);
    const next = from < 0 ? nearest(x, y, 1e9) : nearest(x, y, 1e9, ahead);
    if (next >= 0) { rest(next); said.textContent = about(next); }
  }
}
