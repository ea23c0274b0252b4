// A sheet to draw on with mouse, finger or pen. Strokes are kept as lines, so that undo takes back whole strokes.
function begin() { return { strokes: [] }; }

function show(me) {
  const { data } = me, canvas = me.find("canvas"), brush = me.find("input"), side = data.pixels;
  if (canvas.width !== side) {
    canvas.width = canvas.height = side;
    brush.value = data.brush;
  }
  canvas.setAttribute("aria-label", data.alt);
  canvas.style.maxWidth = `${data.side}px`;
  const place = (event) => share(event, canvas).map((value) => value * side);
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    me.strokes.push({ width: Number(brush.value) * side, erase: event.button === 2 || event.shiftKey, points: [place(event)] });
    me.on = event.pointerId;
    draw();
  };
  canvas.onpointermove = (event) => {
    if (me.on !== event.pointerId) return;
    const steps = event.getCoalescedEvents?.() ?? [];
    for (const each of steps.length ? steps : [event]) me.strokes.at(-1).points.push(place(each));
    draw();
  };
  canvas.onpointerup = canvas.onpointercancel = (event) => {
    if (me.on !== event.pointerId) return;
    me.on = undefined;
    send();
  };
  canvas.oncontextmenu = (event) => event.preventDefault();
  me.find(".undo").onclick = () => { me.strokes.pop(); send(); };
  me.find(".clear").onclick = () => { me.strokes = []; send(); };
  return draw;

  function draw() {
    const pen = canvas.getContext("2d");
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, side, side);
    pen.lineCap = "round";
    for (const { width, erase, points } of me.strokes) {
      const [[x, y]] = points;
      line(pen, points.length > 1 ? points : [[x, y], [x + 0.01, y]], erase ? "#000" : "#fff", width);
    }
    canvas.dataset.strokes = String(me.strokes.length);
  }

  function send() {
    draw();
    me.send("drawing", { png: me.strokes.length ? canvas.toDataURL("image/png") : "" });
  }
}
