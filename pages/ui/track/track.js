// One instance per mounted component; the function below runs again with new data, the DOM and this map survive.
const instances = new WeakMap();

export default function (component) {
  const { data, parentElement } = component;
  const chart = parentElement.querySelector(".chart");
  const slider = parentElement.querySelector("input");
  const button = parentElement.querySelector("button");
  const output = parentElement.querySelector("output");
  const lanes = parentElement.querySelector(".lanes");

  let me = instances.get(parentElement);
  if (!me) {
    me = { time: null, sheets: new Map(), playing: 0, drawing: 0 };
    instances.set(parentElement, me);
    me.observer = new ResizeObserver(() => me.ask());
    me.observer.observe(parentElement.querySelector(".track"));
  }
  me.ask = () => { cancelAnimationFrame(me.drawing); me.drawing = requestAnimationFrame(draw); };
  const newest = Math.max(0, ...data.lanes.flatMap((lane) => lane.moments.map((moment) => moment.seconds)));
  const end = data.live ? newest : Math.max(data.seconds, newest);
  const following = me.time === null || me.time >= me.end;
  me.end = end;
  if (following) me.time = end;
  const shown = new Set(data.lanes.flatMap((lane) => lane.moments.map((moment) => moment.sheet)));
  for (const source of me.sheets.keys()) if (!shown.has(source)) me.sheets.delete(source);
  for (const source of shown) {
    if (!source || me.sheets.has(source)) continue;
    const sheet = new Image();
    sheet.onload = me.ask;
    sheet.src = source;
    me.sheets.set(source, sheet);
  }

  chart.setAttribute("aria-label", data.alt);
  slider.setAttribute("aria-label", "Seconds of training of each family");
  slider.oninput = () => { stop(); me.time = (Number(slider.value) / 1000) * me.end; me.ask(); };
  button.onclick = () => (me.playing ? stop() : play());
  lanes.replaceChildren(...data.lanes.map(lane));
  me.ask();

  function lane({ title, colour }) {
    const box = document.createElement("div");
    box.className = "lane";
    const name = document.createElement("b");
    const dot = document.createElement("i");
    dot.style.background = colour;
    name.append(dot, title);
    name.title = title;
    const words = document.createElement("div");
    box.append(name, words, document.createElement("canvas"));
    return box;
  }

  function play() {
    const start = me.time >= me.end ? 0 : me.time;
    const began = performance.now();
    const tick = (now) => {
      if (!parentElement.isConnected) return;
      me.time = Math.min(me.end, start + ((now - began) / 1000 / data.replay) * me.end);
      draw();
      me.playing = me.time < me.end ? requestAnimationFrame(tick) : 0;
      if (!me.playing) draw();
    };
    me.playing = requestAnimationFrame(tick);
  }

  function stop() {
    cancelAnimationFrame(me.playing);
    me.playing = 0;
    me.ask();
  }

  function draw() {
    slider.value = me.end ? Math.round((me.time / me.end) * 1000) : 1000;
    button.textContent = me.playing ? "❚❚" : "▶";
    button.setAttribute("aria-label", me.playing ? "Pause" : `Replay in ${data.replay} seconds`);
    output.textContent = `${me.time.toFixed(0)} of ${data.seconds} s each`;
    curves();
    data.lanes.forEach((one, index) => samples(one, lanes.children[index]));
  }

  function samples(one, box) {
    if (!box) return;
    const past = one.moments.filter((moment) => moment.seconds <= me.time + 1e-6);
    const now = past[past.length - 1];
    const [, words, canvas] = box.children;
    words.replaceChildren();
    const lines = now
      ? [
          `distance ${plain(now.ratio)} × real`,
          `copying ${now.copying.toFixed(2)} (${now.low.toFixed(2)} to ${now.high.toFixed(2)})`,
          `${short(now.images)} images seen`,
        ]
      : ["waits for its turn", "\u00a0", "\u00a0"];
    for (const line of lines) {
      const row = document.createElement("div");
      row.textContent = line;
      words.append(row);
    }
    const source = past.map((moment) => moment.sheet).filter(Boolean).pop();
    const sheet = me.sheets.get(source);
    canvas.hidden = !sheet || !sheet.complete || !sheet.naturalWidth;
    if (canvas.hidden) return;
    const zoom = Math.max(1, Math.floor(box.clientWidth / sheet.naturalWidth));
    canvas.width = sheet.naturalWidth * zoom;
    canvas.height = sheet.naturalHeight * zoom;
    canvas.style.imageRendering = "pixelated";
    const ink = canvas.getContext("2d");
    ink.imageSmoothingEnabled = false;
    ink.drawImage(sheet, 0, 0, canvas.width, canvas.height);
  }

  function curves() {
    const width = parentElement.querySelector(".track").clientWidth;
    const height = 230;
    if (!width) return;
    const dots = window.devicePixelRatio || 1;
    chart.width = width * dots;
    chart.height = height * dots;
    chart.style.width = `${width}px`;
    chart.style.height = `${height}px`;
    const style = getComputedStyle(chart);
    const ink = chart.getContext("2d");
    ink.scale(dots, dots);
    ink.font = `12px ${style.fontFamily}`;
    const ratios = data.lanes.flatMap((lane) => lane.moments.map((moment) => moment.ratio)).filter((r) => r > 0);
    const low = Math.log10(Math.min(0.8, ...ratios)) - 0.05;
    const high = Math.log10(Math.max(2, ...ratios)) + 0.05;
    const [left, right, top, bottom] = [44, width - 12, 20, height - 26];
    const x = (seconds) => left + (seconds / data.seconds) * (right - left);
    const y = (ratio) => bottom - ((Math.log10(ratio) - low) / (high - low)) * (bottom - top);
    const border = style.getPropertyValue("--st-border-color") || "#8884";
    ink.fillStyle = style.color;
    ink.textBaseline = "middle";
    ink.textAlign = "left";
    ink.fillText("Distance to real images (1 is real; lower is nearer)", left, 8);
    ink.lineWidth = 1;
    ink.textAlign = "right";
    for (let power = Math.floor(low); power <= high; power++) {
      for (const digit of [1, 2, 5]) {
        const value = digit * 10 ** power;
        if (Math.log10(value) < low || Math.log10(value) > high) continue;
        ink.strokeStyle = border;
        ink.setLineDash([]);
        line(left, y(value), right, y(value));
        ink.fillText(plain(value), left - 6, y(value));
      }
    }
    ink.strokeStyle = style.color;
    ink.setLineDash([5, 4]);
    line(left, y(1), right, y(1));
    ink.setLineDash([]);
    ink.textBaseline = "alphabetic";
    ink.textAlign = "center";
    for (let tick = 0; tick <= 4; tick++) {
      const seconds = (data.seconds * tick) / 4;
      ink.textAlign = tick === 4 ? "right" : "center";
      ink.fillText(`${plain(seconds)} s`, x(seconds), height - 8);
    }
    for (const { colour, moments } of data.lanes) {
      const past = moments.filter((moment) => moment.seconds <= me.time + 1e-6 && moment.ratio > 0);
      ink.strokeStyle = ink.fillStyle = colour;
      ink.lineWidth = 2;
      ink.beginPath();
      past.forEach((moment, index) => ink[index ? "lineTo" : "moveTo"](x(Math.min(moment.seconds, data.seconds)), y(moment.ratio)));
      ink.stroke();
      past.forEach((moment, index) => {
        ink.beginPath();
        ink.arc(x(Math.min(moment.seconds, data.seconds)), y(moment.ratio), index === past.length - 1 ? 4.5 : 2.5, 0, 2 * Math.PI);
        ink.fill();
      });
    }

    function line(x1, y1, x2, y2) {
      ink.beginPath();
      ink.moveTo(x1, y1);
      ink.lineTo(x2, y2);
      ink.stroke();
    }
  }
}

function plain(number) {
  return number >= 100 ? number.toFixed(0) : String(Number(number.toPrecision(2)));
}

function short(number) {
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (number >= size) return `${Number((number / size).toPrecision(3))}${unit}`;
  }
  return String(number);
}
