// Two pictures of one sheet: the first left of a border, the second right of it.
function begin() { return { border: 0.5, held: false }; }

function show(me) {
  const { data, box } = me, canvas = me.find("canvas"), slider = me.find("input");
  me.load([data.sheet]);
  canvas.setAttribute("aria-label", data.alt);
  slider.setAttribute("aria-label", "Border between before (left) and after (right)");
  slider.oninput = () => to(slider.value / 100);
  canvas.onpointerdown = (event) => { me.held = true; canvas.setPointerCapture(event.pointerId); to(share(event, canvas)[0]); };
  canvas.onpointermove = (event) => { if (me.held) to(share(event, canvas)[0]); };
  canvas.onpointerup = canvas.onpointercancel = () => { me.held = false; };
  return draw;

  function to(border) { me.border = clamp(border, 0, 1); draw(); }

  function draw() {
    const sheet = me.picture(data.sheet);
    if (!sheet) return;
    const ratio = me.ratio(), [height, width] = data.tile;
    let zoom = Math.min((box.clientWidth * ratio) / width, (data.maxHeight * ratio) / height);
    if (zoom >= 1) zoom = Math.floor(zoom * 2) / 2;
    const w = Math.max(1, Math.round(width * zoom)), h = Math.max(1, Math.round(height * zoom));
    if (sized(canvas, w, h, ratio)) slider.style.width = canvas.style.width;
    slider.value = Math.round(100 * me.border);
    const pen = canvas.getContext("2d"), border = Math.round(w * me.border);
    pen.imageSmoothingEnabled = zoom % 1 !== 0;
    pen.drawImage(sheet, width, 0, width, height, 0, 0, w, h);
    pen.save();
    pen.beginPath();
    pen.rect(0, 0, border, h);
    pen.clip();
    pen.drawImage(sheet, 0, 0, width, height, 0, 0, w, h);
    pen.restore();
    pen.fillStyle = me.accent();
    pen.fillRect(border - ratio, 0, 2 * ratio, h);
    canvas.dataset.border = String(border);
  }
}
