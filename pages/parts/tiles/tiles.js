// Pictures in rows, from one sheet of many; several sheets are a film.
const BOX = 20;  // CSS pixels of the box in a picture's corner that selects it
const READABLE = 64;  // CSS pixels of a column that has a caption, at least

function begin() { return { hover: -1, focus: 0, of: null, picks: new Set(), anchor: 0 }; }

function show(me) {
  const { data, box } = me, canvas = me.find("canvas"), selects = data.picked !== null;
  if (me.of !== data.of) Object.assign(me, { of: data.of, picks: new Set(data.picked), anchor: 0, focus: 0, hover: -1 });
  me.load(data.frames);
  const time = film(me, {
    end: data.frames.length - 1, pace: data.pace, step: 1, loop: data.loop,
    moment: `Moment of ${data.film}`, replay: `Replay ${data.film}`,
  });
  me.find(".film").hidden = data.frames.length < 2;
  const captions = me.find(".captions");
  captions.hidden = !data.captions.length;
  captions.replaceChildren(...data.captions.map((text) => {
    const words = document.createElement("span"), head = document.createElement("b"), [first, ...more] = text.split("\n");
    head.textContent = first;
    words.append(head, ...more.flatMap((line) => [document.createElement("br"), line]));
    return words;
  }));
  canvas.setAttribute("role", data.clickable ? "application" : "img");
  canvas.setAttribute("aria-label", data.alt + (selects
    ? ". Arrow keys go from picture to picture, Enter opens one, Space selects it, with Shift all up to it." : ""));
  canvas.tabIndex = data.clickable ? 0 : -1;
  canvas.classList.toggle("clickable", data.clickable);
  canvas.onpointermove = (event) => {
    const index = at(event);
    canvas.title = index >= 0 ? data.titles[index] ?? "" : "";
    if (data.clickable && index !== me.hover) { me.hover = index; draw(); }
  };
  canvas.onpointerleave = () => { me.hover = -1; draw(); };
  canvas.onclick = (event) => {
    const index = at(event);
    if (!data.clickable || index < 0) return;
    if (selects && (event.shiftKey || event.ctrlKey || event.metaKey || cornered(event, index))) pick(index, event.shiftKey);
    else choose(index);
  };
  canvas.onkeydown = (event) => {
    if (!data.clickable) return;
    const all = (event.ctrlKey || event.metaKey) && event.key === "a";
    if (event.key in ARROWS) {
      const [across, down] = ARROWS[event.key];
      me.hover = me.focus = clamp(me.focus + across + down * layout().columns, 0, data.count - 1);
      if (selects && event.shiftKey) pick(me.focus, true);
      else { me.anchor = me.focus; say(); draw(); }
    } else if (selects && event.key === " ") pick(me.focus, event.shiftKey);
    else if (selects && (all || (event.key === "Escape" && me.picks.size))) {
      me.picks = new Set(all ? Array.from({ length: data.count }, (_, i) => i) : []);
      picked();
    } else if (event.key === "Enter" || event.key === " ") choose(me.focus);
    else return;
    event.preventDefault();
    event.stopPropagation();  // the page's own keys are for when no picture has the focus
  };
  return draw;

  function choose(index) {
    me.focus = me.anchor = index;
    me.send("clicked", { index });
  }

  // Selects a picture, or lets it go; up to it means all from the one that was touched last.
  function pick(index, through) {
    if (through) {
      const [first, last] = [Math.min(me.anchor, index), Math.max(me.anchor, index)];
      for (let i = first; i <= last; i++) me.picks.add(i);
    } else {
      if (!me.picks.delete(index)) me.picks.add(index);
      me.anchor = index;
    }
    me.focus = index;
    picked();
  }

  function picked() {
    say();
    draw();
    me.after("tell", 80, () => me.tell("picked", { of: data.of, indices: [...me.picks] }));
  }

  function say() {
    const one = [data.titles[me.focus], me.picks.has(me.focus) && "selected"].filter(Boolean).join(", ");
    me.find(".said").textContent = one + (me.picks.size ? `; ${me.picks.size} selected on this page` : "");
  }

  // Geometry in device pixels, so that a pixel of the picture is a whole number of pixels of the screen.
  function layout() {
    const ratio = me.ratio(), [height, width] = data.tile;
    const gap = Math.round(2 * ratio), across = (count) => (box.clientWidth * ratio - gap * (count + 1)) / (count * width);
    if (data.side) {
      const wide = (box.clientWidth * ratio - 2 * gap) / width;
      let zoom = Math.min((data.side * ratio) / height, wide);
      if (!me.smooth && zoom >= 1) zoom = Math.floor(zoom);
      const w = Math.max(1, Math.round(width * zoom)), h = Math.max(1, Math.round(height * zoom));
      const columns = Math.max(1, Math.floor((box.clientWidth * ratio - gap) / (w + gap)));
      const rows = Math.ceil(data.count / columns);
      return { ratio, columns, count: data.count, gap, w, h, zoom, total: [columns * (w + gap) + gap, rows * (h + gap) + gap] };
    }
    const least = data.minZoom * ratio, most = Math.max(1, Math.min(data.columns, data.count));
    let columns = most;
    while (columns > 1 && (most % columns || across(columns) < least)) columns--;
    let rows = Math.ceil(data.count / columns);
    let zoom = Math.min(across(columns), data.maxZoom * ratio);
    if (!least) zoom = Math.min(zoom, (data.maxHeight * ratio - gap * (rows + 1)) / (rows * height));
    if (data.captions.length) zoom = Math.max(zoom, Math.min(READABLE * ratio / width, data.maxZoom * ratio));
    const step = Math.min(height, width) >= 24 ? 2 : 1;  // larger pictures may be enlarged by halves
    zoom = zoom >= 1 ? Math.floor(zoom * step) / step : Math.max(zoom, 0.05);
    const w = Math.max(1, Math.round(width * zoom)), h = Math.max(1, Math.round(height * zoom));
    if (least) rows = clamp(Math.floor((data.maxHeight * ratio - gap) / (h + gap)), 1, rows);
    return { ratio, columns, count: Math.min(data.count, rows * columns), gap, w, h, zoom, total: [columns * (w + gap) + gap, rows * (h + gap) + gap] };
  }

  function at(event) {
    const l = layout(), place = canvas.getBoundingClientRect();
    const x = (event.clientX - place.left) * l.ratio, y = (event.clientY - place.top) * l.ratio;
    const column = Math.floor((x - l.gap / 2) / (l.w + l.gap)), row = Math.floor((y - l.gap / 2) / (l.h + l.gap));
    const index = row * l.columns + column;
    return column >= 0 && column < l.columns && row >= 0 && index < l.count ? index : -1;
  }

  function cornered(event, index) {
    const l = layout(), place = canvas.getBoundingClientRect(), reach = Math.min(BOX + 4, l.w / l.ratio / 2);
    const right = (l.gap + (index % l.columns) * (l.w + l.gap) + l.w) / l.ratio;
    const top = (l.gap + Math.floor(index / l.columns) * (l.h + l.gap)) / l.ratio;
    return event.clientX - place.left > right - reach && event.clientY - place.top < top + reach;
  }

  function tick(pen, l, x, y, on, accent) {  // the box that selects
    const side = Math.min(BOX * l.ratio, l.w * 0.4), left = x + l.w - side - l.ratio, top = y + l.ratio;
    pen.fillStyle = on ? accent : me.colour("background-color");
    pen.globalAlpha = on ? 1 : 0.75;
    pen.fillRect(left, top, side, side);
    pen.globalAlpha = 1;
    pen.lineWidth = l.ratio;
    pen.strokeStyle = on ? accent : me.colour("text-color");
    pen.strokeRect(left, top, side, side);
    if (on) line(pen, [[0.22, 0.52], [0.42, 0.72], [0.78, 0.3]].map(([a, b]) => [left + a * side, top + b * side]), me.onAccent(), 2 * l.ratio);
  }

  function draw() {
    time.say(data.labels[time.at] ?? "");
    const sheet = me.picture(data.frames[time.at]);
    if (!sheet) return;
    const l = layout(), [height, width] = data.tile, pen = canvas.getContext("2d");
    sized(canvas, ...l.total, l.ratio);
    if (data.captions.length) {
      captions.style.gridTemplateColumns = `repeat(${l.columns}, ${(l.w + l.gap) / l.ratio}px)`;
      box.tabIndex = l.total[0] > box.clientWidth * l.ratio + 1 ? 0 : -1;  // what scrolls is reached by keys, too
    }
    pen.clearRect(0, 0, canvas.width, canvas.height);
    me.enlarge(pen, l.zoom);
    const accent = me.accent(), fingers = matchMedia("(hover: none)").matches;
    for (let i = 0; i < l.count; i++) {
      const column = i % l.columns, row = Math.floor(i / l.columns);
      const x = l.gap + column * (l.w + l.gap), y = l.gap + row * (l.h + l.gap);
      const from = [(i % data.columns) * width, Math.floor(i / data.columns) * height];
      pen.drawImage(sheet, ...from, width, height, x, y, l.w, l.h);
      const mark = data.marks[i];
      if (me.picks.has(i)) {
        pen.globalAlpha = 0.3;
        pen.fillStyle = accent;
        pen.fillRect(x, y, l.w, l.h);
        pen.globalAlpha = 1;
      }
      if (mark !== undefined || i === me.hover || me.picks.has(i)) {
        pen.lineWidth = l.gap;
        pen.strokeStyle = accent;
        pen.strokeRect(x - l.gap / 2, y - l.gap / 2, l.w + l.gap, l.h + l.gap);
      }
      if (mark) {
        const side = Math.min(18 * l.ratio, l.h * 0.45);
        pen.fillStyle = accent;
        pen.fillRect(x, y, side, side);
        pen.fillStyle = me.onAccent();
        pen.font = `600 ${side * 0.75}px sans-serif`;
        pen.textAlign = "center";
        pen.textBaseline = "middle";
        pen.fillText(mark, x + side / 2, y + side * 0.55);
      }
      if (selects && (fingers || i === me.hover || me.picks.has(i))) tick(pen, l, x, y, me.picks.has(i), accent);
    }
    canvas.dataset.frame = String(time.at);
    counted(canvas);
  }
}
