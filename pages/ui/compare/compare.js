// One instance per mounted component; the DOM and this map survive when new data arrives.
const instances = new WeakMap();

export default function (component) {
  const { data, parentElement } = component;
  const box = parentElement.querySelector(".box");
  const canvas = box.querySelector("canvas");
  const slider = box.querySelector("input");

  let me = instances.get(parentElement);
  if (!me) {
    me = { source: "", sheet: null, share: 0.5, held: false };
    instances.set(parentElement, me);
    me.observer = new ResizeObserver(() => requestAnimationFrame(draw));
    me.observer.observe(box);
  }
  me.data = data;
  if (me.source !== data.sheet) {
    me.source = data.sheet;
    me.sheet = new Image();
    me.sheet.onload = draw;
    me.sheet.src = data.sheet;
  }
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", data.alt);
  slider.setAttribute("aria-label", "Border between before (left) and after (right)");
  slider.oninput = () => { me.share = slider.value / 100; draw(); };
  canvas.onpointerdown = (event) => { me.held = true; canvas.setPointerCapture(event.pointerId); move(event); };
  canvas.onpointermove = (event) => { if (me.held) move(event); };
  canvas.onpointerup = canvas.onpointercancel = () => { me.held = false; };
  draw();
  return () => { me.observer.disconnect(); instances.delete(parentElement); };

  function move(event) {
    const place = canvas.getBoundingClientRect();
    me.share = Math.max(0, Math.min(1, (event.clientX - place.left) / place.width));
    draw();
  }

  function draw() {
    if (!me.sheet || !me.sheet.complete || !me.sheet.naturalWidth) return;
    const ratio = window.devicePixelRatio || 1;
    const [height, width] = me.data.tile;
    let zoom = Math.min((box.clientWidth * ratio) / width, (me.data.maxHeight * ratio) / height);
    if (zoom >= 1) zoom = Math.floor(zoom * 2) / 2;
    const w = Math.max(1, Math.round(width * zoom)), h = Math.max(1, Math.round(height * zoom));
    if (canvas.width !== w || canvas.height !== h) {
      [canvas.width, canvas.height] = [w, h];
      canvas.style.width = slider.style.width = `${w / ratio}px`;
      canvas.style.height = `${h / ratio}px`;
    }
    slider.value = Math.round(100 * me.share);
    const pen = canvas.getContext("2d");
    pen.imageSmoothingEnabled = zoom % 1 !== 0;
    const border = Math.round(w * me.share);
    pen.drawImage(me.sheet, width, 0, width, height, 0, 0, w, h);
    pen.save();
    pen.beginPath();
    pen.rect(0, 0, border, h);
    pen.clip();
    pen.drawImage(me.sheet, 0, 0, width, height, 0, 0, w, h);
    pen.restore();
    pen.fillStyle = getComputedStyle(box).getPropertyValue("--st-primary-color") || "#4b49c8";
    pen.fillRect(border - ratio, 0, 2 * ratio, h);
    canvas.dataset.border = String(border);
  }
}
