// A sheet to draw on with mouse, finger or pen. Strokes are kept as lines, so that undo takes back whole strokes.
const instances = new WeakMap();

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const canvas = parentElement.querySelector("canvas");
  const width = parentElement.querySelector("input");
  const side = data.pixels;

  let me = instances.get(parentElement);
  if (!me) {
    me = { strokes: [], number: 0 };
    instances.set(parentElement, me);
    canvas.width = canvas.height = side;
    width.value = data.brush;
  }
  canvas.setAttribute("aria-label", data.alt);
  canvas.style.maxWidth = `${data.side}px`;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * side) / box.width, ((event.clientY - box.top) * side) / box.height];
  };
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    me.strokes.push({ width: Number(width.value) * side, erase: event.button === 2 || event.shiftKey, points: [place(event)] });
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
  parentElement.querySelector(".undo").onclick = () => { me.strokes.pop(); draw(); send(); };
  parentElement.querySelector(".clear").onclick = () => { me.strokes = []; draw(); send(); };
  draw();
  return () => instances.delete(parentElement);

  function draw() {
    const pen = canvas.getContext("2d");
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, side, side);
    pen.lineCap = pen.lineJoin = "round";
    for (const stroke of me.strokes) {
      pen.strokeStyle = stroke.erase ? "#000" : "#fff";
      pen.lineWidth = stroke.width;
      pen.beginPath();
      stroke.points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
      if (stroke.points.length === 1) pen.lineTo(stroke.points[0][0] + 0.01, stroke.points[0][1]);
      pen.stroke();
    }
    canvas.dataset.strokes = String(me.strokes.length);
  }

  function send() {
    me.number = Math.max(Date.now(), me.number + 1);
    setStateValue("drawing", { number: me.number, png: me.strokes.length ? canvas.toDataURL("image/png") : "" });
  }
}
