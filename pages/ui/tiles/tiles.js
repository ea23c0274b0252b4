// One instance per mounted component; the function below runs again with new data, the DOM and this map survive.
const instances = new WeakMap();

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const canvas = parentElement.querySelector("canvas");
  const film = parentElement.querySelector(".film");
  const slider = film.querySelector("input");
  const button = film.querySelector("button");
  const output = film.querySelector("output");

  let me = instances.get(parentElement);
  if (!me) {
    me = { sheets: [], sources: [], frame: -1, hover: -1, focus: 0, number: 0, timer: 0, left: 0 };
    instances.set(parentElement, me);
    me.observer = new ResizeObserver(() => requestAnimationFrame(draw));
    me.observer.observe(parentElement.querySelector(".box"));
  }
  const following = me.frame < 0 || me.frame >= me.sources.length - 1;
  me.data = data;
  me.set = setStateValue;
  if (data.frames.length !== me.sources.length || data.frames.some((source, i) => source !== me.sources[i])) {
    me.sheets = data.frames.map((source, i) => {
      if (source === me.sources[i]) return me.sheets[i];
      const sheet = new Image();
      sheet.onload = () => me.draw();
      sheet.src = source;
      return sheet;
    });
    me.sources = data.frames;
  }
  if (following && !me.timer) me.frame = data.frames.length - 1;
  me.frame = Math.min(me.frame, data.frames.length - 1);
  me.draw = draw;

  film.hidden = data.frames.length < 2;
  slider.max = Math.max(0, data.frames.length - 1);
  slider.setAttribute("aria-label", `Moment of ${data.film}`);
  slider.oninput = () => { me.frame = Number(slider.value); stop(); };
  button.onclick = () => (me.timer ? stop() : play());
  canvas.setAttribute("role", data.clickable ? "application" : "img");
  canvas.setAttribute("aria-label", data.alt);
  canvas.tabIndex = data.clickable ? 0 : -1;
  canvas.classList.toggle("clickable", data.clickable);
  canvas.onpointermove = (event) => {
    const index = at(event);
    canvas.title = index >= 0 ? data.titles[index] ?? "" : "";
    if (data.clickable && index !== me.hover) { me.hover = index; draw(); }
  };
  canvas.onpointerleave = () => { me.hover = -1; draw(); };
  canvas.onclick = (event) => { const index = at(event); if (data.clickable && index >= 0) choose(index); };
  canvas.onkeydown = (event) => {
    const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: data.columns, ArrowUp: -data.columns };
    if (!data.clickable) return;
    if (event.key in moves) {
      me.focus = Math.max(0, Math.min(data.count - 1, me.focus + moves[event.key]));
      me.hover = me.focus;
      draw();
      event.preventDefault();
    } else if (event.key === "Enter" || event.key === " ") {
      choose(me.focus);
      event.preventDefault();
    }
  };
  draw();
  return () => { stop(); me.observer.disconnect(); instances.delete(parentElement); };

  function choose(index) {
    me.focus = index;
    me.number = Date.now();
    me.set("clicked", { number: me.number, index });
  }

  function play() {
    if (me.frame >= me.sources.length - 1) me.frame = 0;
    button.textContent = "❚❚";
    button.setAttribute("aria-label", "Pause");
    me.timer = setInterval(() => {
      if (me.frame >= me.sources.length - 1 && !me.data.loop) return stop();
      me.frame = (me.frame + 1) % me.sources.length;
      draw();
    }, data.pace);
    draw();
  }

  function stop() {
    clearInterval(me.timer);
    me.timer = 0;
    draw();
  }

  // Geometry in device pixels, so that a pixel of the picture is a whole number of pixels of the screen.
  function layout() {
    const ratio = window.devicePixelRatio || 1;
    const [height, width] = me.data.tile;
    const columns = Math.max(1, Math.min(me.data.columns, me.data.count));
    const rows = Math.ceil(me.data.count / columns);
    const room = parentElement.querySelector(".box").clientWidth * ratio;
    const gap = Math.round(2 * ratio);
    let zoom = Math.min(
      (room - gap * (columns + 1)) / (columns * width),
      (me.data.maxHeight * ratio - gap * (rows + 1)) / (rows * height),
      me.data.maxZoom * ratio,
    );
    const step = Math.min(height, width) >= 24 ? 2 : 1;  // larger pictures may be enlarged by halves
    zoom = zoom >= 1 ? Math.floor(zoom * step) / step : Math.max(zoom, 0.05);
    const w = Math.max(1, Math.round(width * zoom)), h = Math.max(1, Math.round(height * zoom));
    return { ratio, columns, rows, gap, w, h, zoom, total: [columns * (w + gap) + gap, rows * (h + gap) + gap] };
  }

  function at(event) {
    const l = layout();
    const box = canvas.getBoundingClientRect();
    const x = (event.clientX - box.left) * l.ratio, y = (event.clientY - box.top) * l.ratio;
    const column = Math.floor((x - l.gap / 2) / (l.w + l.gap)), row = Math.floor((y - l.gap / 2) / (l.h + l.gap));
    const index = row * l.columns + column;
    return column >= 0 && column < l.columns && row >= 0 && index < me.data.count ? index : -1;
  }

  function draw() {
    const sheet = me.sheets[me.frame];
    if (!film.hidden) {
      slider.value = me.frame;
      output.textContent = me.data.labels[me.frame] ?? "";
      slider.setAttribute("aria-valuetext", output.textContent);
      if (!me.timer) { button.textContent = "▶"; button.setAttribute("aria-label", `Replay ${data.film}`); }
    }
    if (!sheet || !sheet.complete || !sheet.naturalWidth) return;
    const l = layout();
    const [height, width] = me.data.tile;
    if (canvas.width !== l.total[0] || canvas.height !== l.total[1]) {
      [canvas.width, canvas.height] = l.total;
      canvas.style.width = `${l.total[0] / l.ratio}px`;
      canvas.style.height = `${l.total[1] / l.ratio}px`;
    }
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.imageSmoothingEnabled = l.zoom % 1 !== 0;
    const style = getComputedStyle(parentElement.querySelector(".box"));
    const accent = style.getPropertyValue("--st-primary-color") || "#4b49c8";
    for (let i = 0; i < me.data.count; i++) {
      const column = i % l.columns, row = Math.floor(i / l.columns);
      const x = l.gap + column * (l.w + l.gap), y = l.gap + row * (l.h + l.gap);
      pen.drawImage(sheet, column * width, row * height, width, height, x, y, l.w, l.h);
      const mark = me.data.marks[i];
      if (mark !== undefined || i === me.hover) {
        pen.lineWidth = l.gap;
        pen.strokeStyle = accent;
        pen.strokeRect(x - l.gap / 2, y - l.gap / 2, l.w + l.gap, l.h + l.gap);
      }
      if (mark) {
        const side = Math.min(18 * l.ratio, l.h * 0.45);
        pen.fillStyle = accent;
        pen.fillRect(x, y, side, side);
        pen.fillStyle = "#fff";
        pen.font = `600 ${side * 0.75}px sans-serif`;
        pen.textAlign = "center";
        pen.textBaseline = "middle";
        pen.fillText(mark, x + side / 2, y + side * 0.55);
      }
    }
    canvas.dataset.frame = String(me.frame);
    canvas.dataset.drawn = String(Number(canvas.dataset.drawn || 0) + 1);
  }
}
