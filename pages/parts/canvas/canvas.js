// A sheet to draw on, or a picture to mark a part of. What is done is kept as shapes, so that undo takes back whole ones.
// A picture is marked by whole pixels: what is seen over it is what is told.
const TOUCHING = 0.71;  // half a pixel's diagonal: a stroke marks each pixel that it goes through

function begin() { return { shapes: [], tool: "brush", cursor: null, hover: null, corner: null }; }

function show(me) {
  const { data, box } = me, canvas = me.find("canvas"), width = me.find("input"), [rows, columns] = data.pixels;
  const marks = Boolean(data.picture), side = Math.max(rows, columns), of = `${rows} ${columns} ${data.sheet ?? ""}`;
  if (me.of !== of) {
    Object.assign(me, { of, shapes: started(), cursor: null, corner: null });
    width.value = data.brush;
  }
  me.load([marks ? data.picture : data.under].filter(Boolean));
  pencils();
  canvas.classList.toggle("sheet", !marks);
  canvas.setAttribute("role", marks ? "application" : "img");
  canvas.setAttribute("aria-label", data.alt + (marks
    ? ". Arrow keys move, with Shift farther; Space paints, or sets a corner; Enter closes a lasso; Backspace takes back." : ""));
  canvas.tabIndex = marks ? 0 : -1;
  me.find(".tools").hidden = !marks;
  me.find(".said").hidden = !marks;
  for (const button of box.querySelectorAll(".tool")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === me.tool));
    button.onclick = () => {
      Object.assign(me, { tool: button.dataset.tool, corner: null });
      for (const each of box.querySelectorAll(".tool")) each.setAttribute("aria-pressed", String(each === button));
      me.redraw();
    };
  }
  const place = (event) => {
    const [x, y] = share(event, canvas);
    return marks ? [clamp(x * columns, 0, columns - 1e-3), clamp(y * rows, 0, rows - 1e-3)] : [x * columns, y * rows];
  };
  const stroke = (points, erase) => ({
    tool: erase ? "rubber" : me.tool, width: Number(width.value) * side, points, colour: erase ? data.ground : me.ink,
  });
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    me.shapes.push(stroke([place(event)], event.button === 2 || event.shiftKey));
    Object.assign(me, { on: event.pointerId, corner: null, cursor: null });
    draw();
  };
  canvas.onpointermove = (event) => {
    me.hover = place(event);
    if (me.on === event.pointerId) {
      const steps = event.getCoalescedEvents?.() ?? [], shape = me.shapes.at(-1);
      if (shape.tool === "box") shape.points[1] = me.hover;
      else for (const each of steps.length ? steps : [event]) shape.points.push(place(each));
      draw();
    } else if (marks) me.redraw();
  };
  canvas.onpointerleave = () => { me.hover = null; if (marks) me.redraw(); };
  canvas.onpointerup = canvas.onpointercancel = (event) => {
    if (me.on !== event.pointerId) return;
    me.on = undefined;
    send();
  };
  canvas.oncontextmenu = (event) => event.preventDefault();
  canvas.onkeydown = (event) => {
    if (!marks || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!pressed(event)) return;
    event.preventDefault();
    event.stopPropagation();  // the page's own keys are for when the picture has not the focus
  };
  canvas.onblur = () => { me.cursor = null; me.redraw(); };
  width.oninput = () => me.redraw();
  me.find(".undo").onclick = back;
  me.find(".clear").onclick = () => { Object.assign(me, { shapes: [], corner: null }); send(); };
  return draw;

  function back() {
    if (me.corner) { me.corner = null; me.redraw(); return; }
    if (me.shapes.length) { me.shapes.pop(); send(); }
  }

  // With keys, a cursor goes from pixel to pixel; a box and a lasso are made of corners.
  function pressed(event) {
    const here = () => me.cursor.map((value) => value + 0.5);
    if (event.key in ARROWS) {
      const far = event.shiftKey ? Math.max(2, Math.round(side / 8)) : Math.max(1, Math.round(side / 64));
      const [x, y] = me.cursor ?? [(columns >> 1) - ARROWS[event.key][0] * far, (rows >> 1) - ARROWS[event.key][1] * far];
      me.cursor = [clamp(x + ARROWS[event.key][0] * far, 0, columns - 1), clamp(y + ARROWS[event.key][1] * far, 0, rows - 1)];
    } else if (event.key === " ") {
      me.cursor ??= [columns >> 1, rows >> 1];
      if (me.tool === "lasso" || (me.tool === "box" && !me.corner)) me.corner = [...(me.corner ?? []), here()];
      else {
        me.shapes.push(stroke(me.tool === "box" ? [me.corner[0], here()] : [here()], false));
        me.corner = null;
        send();
      }
    } else if (event.key === "Enter" && me.tool === "lasso" && me.corner?.length > 2) {
      me.shapes.push(stroke(me.corner, false));
      me.corner = null;
      send();
    } else if (event.key === "Backspace" || event.key === "Delete") back();
    else if (event.key === "Escape" && me.corner) me.corner = null;
    else return false;
    me.redraw();
    return true;
  }

  function draw() {
    if (!marks) { ink(); return; }
    const picture = me.picture(data.picture);
    if (!picture || !box.clientWidth) return;
    const ratio = me.ratio(), most = Math.min(data.side, box.clientWidth) * ratio / side;
    const zoom = most >= 1 ? Math.floor(most) : most, w = Math.round(columns * zoom), h = Math.round(rows * zoom);
    sized(canvas, w, h, ratio);
    const pen = canvas.getContext("2d"), mask = marked();
    pen.imageSmoothingEnabled = zoom < 1;
    pen.drawImage(picture, 0, 0, w, h);
    veil(pen, mask, zoom, w, h, ratio);
    pending(pen, zoom, ratio);
    const count = mask.reduce((sum, each) => sum + each, 0);
    canvas.dataset.marked = String(count);
    counted(canvas);
    const at = me.cursor ? `; at column ${me.cursor[0] + 1}, row ${me.cursor[1] + 1}` : "";
    me.find(".said").textContent = `${count} of ${rows * columns} pixels marked${at}`;
  }

  // What is marked, in the accent, with a line around it that stands out on any picture.
  function veil(pen, mask, zoom, w, h, ratio) {
    const layer = (me.layer ??= document.createElement("canvas"));
    [layer.width, layer.height] = [columns, rows];
    const over = layer.getContext("2d");
    over.fillStyle = me.accent();
    mask.forEach((each, i) => { if (each) over.fillRect(i % columns, Math.floor(i / columns), 1, 1); });
    pen.globalAlpha = 0.6;
    pen.imageSmoothingEnabled = false;
    pen.drawImage(layer, 0, 0, w, h);
    pen.globalAlpha = 1;
    pen.beginPath();
    const is = (x, y) => x >= 0 && y >= 0 && x < columns && y < rows && mask[y * columns + x];
    for (let y = 0; y <= rows; y++)
      for (let x = 0; x <= columns; x++) {
        if (Boolean(is(x, y)) !== Boolean(is(x - 1, y))) { pen.moveTo(x * zoom, y * zoom); pen.lineTo(x * zoom, (y + 1) * zoom); }
        if (Boolean(is(x, y)) !== Boolean(is(x, y - 1))) { pen.moveTo(x * zoom, y * zoom); pen.lineTo((x + 1) * zoom, y * zoom); }
      }
    for (const [colour, thick] of [["#000", 3], ["#fff", 1.5]]) { pen.strokeStyle = colour; pen.lineWidth = thick * ratio; pen.stroke(); }
  }

  // What is under way: the width of a stroke, the cursor of the keys, and corners that are set.
  function pending(pen, zoom, ratio) {
    const around = (shape) => {
      pen.beginPath();
      shape();
      for (const [colour, thick] of [["#000", 3], ["#fff", 1.5]]) { pen.strokeStyle = colour; pen.lineWidth = thick * ratio; pen.stroke(); }
    };
    const at = me.cursor ? me.cursor.map((value) => value + 0.5) : me.hover, shape = me.on !== undefined && me.shapes.at(-1);
    if (at && (me.tool === "brush" || me.tool === "rubber"))
      around(() => pen.arc(at[0] * zoom, at[1] * zoom, Math.max(Number(width.value) * side / 2, TOUCHING) * zoom, 0, 7));
    if (me.cursor) around(() => pen.rect(me.cursor[0] * zoom, me.cursor[1] * zoom, zoom, zoom));
    const points = shape?.tool === "lasso" ? shape.points : me.corner;
    if (points?.length)
      around(() => [...points, ...(me.corner && at ? [at] : [])].forEach(([x, y], i) => (i ? pen.lineTo(x * zoom, y * zoom) : pen.moveTo(x * zoom, y * zoom))));
  }

  function marked() {
    const mask = new Uint8Array(rows * columns);
    for (const shape of me.shapes) {
      if (shape.tool === "mask") shape.bits.forEach((each, i) => { if (each) mask[i] = 1; });
      else if (shape.tool === "box") boxed(mask, shape.points);
      else if (shape.tool === "lasso") enclosed(mask, shape.points);
      else brushed(mask, shape.points, Math.max(shape.width / 2, TOUCHING), shape.tool === "rubber" ? 0 : 1);
    }
    return mask;
  }

  function boxed(mask, points) {
    const [[a, b], [c, d]] = [points[0], points.at(-1)];
    for (let y = Math.floor(Math.min(b, d)); y <= Math.floor(Math.max(b, d)); y++)
      for (let x = Math.floor(Math.min(a, c)); x <= Math.floor(Math.max(a, c)); x++) mask[y * columns + x] = 1;
  }

  // Marks the pixels whose middle lies inside a line that is closed; crossings are counted along each row.
  function enclosed(mask, points) {
    for (let y = 0; y < rows; y++) {
      const cuts = points.flatMap(([a, b], i) => {
        const [c, d] = points[(i + 1) % points.length], middle = y + 0.5;
        return b <= middle === d <= middle ? [] : [a + (c - a) * (middle - b) / (d - b)];
      }).sort((a, b) => a - b);
      for (let i = 0; i + 1 < cuts.length; i += 2)
        for (let x = Math.ceil(cuts[i] - 0.5); x + 0.5 < cuts[i + 1]; x++) mask[y * columns + x] = 1;
    }
  }

  function brushed(mask, points, radius, value) {
    points.forEach(([x1, y1], i) => {
      const [x0, y0] = points[Math.max(0, i - 1)], dx = x1 - x0, dy = y1 - y0, length = dx * dx + dy * dy;
      const [left, right] = [Math.min(x0, x1) - radius, Math.max(x0, x1) + radius].map((x) => clamp(Math.floor(x), 0, columns - 1));
      const [top, foot] = [Math.min(y0, y1) - radius, Math.max(y0, y1) + radius].map((y) => clamp(Math.floor(y), 0, rows - 1));
      for (let y = top; y <= foot; y++)
        for (let x = left; x <= right; x++) {
          const along = length ? clamp(((x + 0.5 - x0) * dx + (y + 0.5 - y0) * dy) / length, 0, 1) : 0;
          if (Math.hypot(x + 0.5 - x0 - along * dx, y + 0.5 - y0 - along * dy) <= radius) mask[y * columns + x] = value;
        }
    });
  }

  function started() {
    const bytes = Uint8Array.from(atob(data.start ?? ""), (sign) => sign.charCodeAt(0));
    const bits = Uint8Array.from({ length: rows * columns }, (_, i) => (bytes[i >> 3] >> (7 - (i & 7))) & 1);
    return bits.some(Boolean) ? [{ tool: "mask", bits }] : [];
  }

  // One pencil for each colour, one that rubs out, and one of any colour; a sheet with a single ink has none to choose.
  function pencils() {
    const place = me.find(".inks"), inks = data.inks ?? [];
    place.hidden = marks || inks.length < 2;
    if (marks || me.inks === inks.join()) return;
    Object.assign(me, { inks: inks.join(), ink: inks[0] });
    const other = Object.assign(document.createElement("input"), { type: "color", value: inks[0], title: "Any colour" });
    other.setAttribute("aria-label", "Any colour");
    const buttons = [...inks, data.ground].map((colour, i) => {
      const button = Object.assign(document.createElement("button"), { type: "button", title: i < inks.length ? colour : "Rub out" });
      button.setAttribute("aria-label", i < inks.length ? `Pencil ${colour}` : "Rub out");
      button.append(spotted(colour));
      return button;
    });
    const choose = (colour, chosen) => {
      me.ink = colour;
      for (const each of buttons) each.setAttribute("aria-pressed", String(each === chosen));
      other.setAttribute("aria-current", String(other === chosen));  // a field of colour is no button that stays pressed
    };
    buttons.forEach((button, i) => { button.onclick = () => choose(inks[i] ?? data.ground, button); });
    other.oninput = other.onclick = () => choose(other.value, other);
    place.replaceChildren(...buttons, other);
    choose(inks[0], buttons[0]);
  }

  function ink() {
    if (canvas.width !== columns || canvas.height !== rows) [canvas.width, canvas.height] = [columns, rows];
    canvas.style.maxWidth = `${data.side}px`;
    const pen = canvas.getContext("2d");
    pen.fillStyle = data.ground;
    pen.fillRect(0, 0, columns, rows);
    const under = me.picture(data.under);
    pen.imageSmoothingEnabled = false;
    if (under) pen.drawImage(under, 0, 0, columns, rows);
    pen.lineCap = "round";
    for (const { width: thick, points, colour } of me.shapes) {
      const [[x, y]] = points;
      line(pen, points.length > 1 ? points : [[x, y], [x + 0.01, y]], colour, thick);
    }
    canvas.dataset.strokes = String(me.shapes.length);
  }

  function send() {
    draw();
    if (!marks) { me.send("drawing", { png: me.shapes.length ? canvas.toDataURL("image/png") : "", sheet: data.sheet }); return; }
    const mask = marked(), bytes = new Uint8Array(Math.ceil(mask.length / 8));
    mask.forEach((each, i) => { if (each) bytes[i >> 3] |= 0x80 >> (i & 7); });
    me.send("mask", { pixels: data.pixels, bits: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")) });
  }
}
