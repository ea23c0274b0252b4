// A race: the samples of a moment, and curves that grow with its seconds.
const HEIGHT = 230;  // of the curves, in CSS pixels
const EDGES = 12;  // padding and border of a card, both sides

function begin() { return {}; }

function show(me) {
  const { data, box } = me, chart = me.find(".chart"), lanes = me.find(".lanes");
  const moments = data.lanes.flatMap((lane) => lane.moments);
  const newest = Math.max(0, ...moments.map((moment) => moment.seconds));
  const end = data.live ? newest : Math.max(data.seconds, newest);
  const time = film(me, {
    end, pace: (data.replay * 1000) / end, moment: "Seconds of training of each family", replay: `Replay in ${data.replay} seconds`,
  });
  me.load(moments.map((moment) => moment.sheet));
  chart.setAttribute("aria-label", data.alt);
  lanes.replaceChildren(...data.lanes.map(({ title, colour }) => {
    const lane = document.createElement("div"), name = document.createElement("b");
    lane.className = "lane";
    name.append(spotted(colour), title);
    name.title = title;
    lane.append(document.createElement("canvas"), name, document.createElement("div"));
    return lane;
  }));
  // pictures of four times their size, but of at most 128 pixels unless they are larger themselves
  const [high, wide] = data.tile, zoom = Math.max(1, Math.min(4, 128 / wide));
  const [across, down] = [wide * zoom, high * zoom].map(Math.round);
  // as wide as five of them, or two of the larger ones, with padding and border
  const card = Math.max(150, clamp(Math.floor(280 / (across + 2)), 2, 5) * (across + 2) - 2) + EDGES;
  lanes.style.gridTemplateColumns = `repeat(auto-fit, minmax(min(100%, ${card}px), 1fr))`;
  return draw;

  function draw() {
    time.say(`${time.at.toFixed(0)} of ${data.seconds} s each`);
    curves();
    data.lanes.forEach((one, index) => samples(one, lanes.children[index]));
  }

  function samples(one, lane) {
    const past = one.moments.filter((moment) => moment.seconds <= time.at + 1e-6);
    const now = past[past.length - 1];
    const [canvas, , words] = lane.children;
    const lines = now
      ? [
          `distance ${plain(now.ratio)} × real`,
          `copying ${now.copying.toFixed(2)} (${now.low.toFixed(2)} to ${now.high.toFixed(2)})`,
          `${short(now.images)} images seen`,
        ]
      : ["waits for its turn", "\u00a0", "\u00a0"];
    words.replaceChildren(...lines.map((text) => {
      const row = document.createElement("div");
      row.textContent = text;
      return row;
    }));
    const sheet = me.picture(past.map((moment) => moment.sheet).filter(Boolean).pop());
    const ratio = me.ratio(), gap = Math.round(2 * ratio), room = (lane.clientWidth + 2 - EDGES) * ratio + gap;
    const columns = clamp(Math.floor(room / (across * ratio + gap)), 1, 5), count = Math.min(data.count, 2 * columns);
    const larger = Math.max(zoom * ratio, Math.floor((room / columns - gap) / wide));  // where there is room
    const [w, h] = [wide * larger, high * larger].map(Math.round);
    sized(canvas, columns * (w + gap) - gap, Math.ceil(count / columns) * (h + gap) - gap, ratio);
    const ink = canvas.getContext("2d");
    ink.clearRect(0, 0, canvas.width, canvas.height);
    if (!sheet) return;
    me.enlarge(ink, larger);
    for (let i = 0; i < count; i++) {
      const from = [(i % data.columns) * wide, Math.floor(i / data.columns) * high];
      ink.drawImage(sheet, ...from, wide, high, (i % columns) * (w + gap), Math.floor(i / columns) * (h + gap), w, h);
    }
  }

  function curves() {
    const width = box.clientWidth, height = HEIGHT, dots = me.ratio();
    if (!width) return;
    sized(chart, Math.round(width * dots), Math.round(height * dots), dots);
    const style = getComputedStyle(chart);
    const ink = chart.getContext("2d");
    ink.setTransform(dots, 0, 0, dots, 0, 0);
    ink.clearRect(0, 0, width, height);
    ink.font = `12px ${style.fontFamily}`;
    const ratios = moments.map((moment) => moment.ratio).filter((ratio) => ratio > 0);
    const low = Math.log10(Math.min(0.8, ...ratios)) - 0.05;
    const high = Math.log10(Math.max(2, ...ratios)) + 0.05;
    const [left, right, top, bottom] = [44, width - 12, 20, height - 26];
    const x = (seconds) => left + (seconds / data.seconds) * (right - left);
    const y = (ratio) => bottom - ((Math.log10(ratio) - low) / (high - low)) * (bottom - top);
    const border = me.colour("border-color") || "#8884";
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
        across(y(value));
        ink.fillText(plain(value), left - 6, y(value));
      }
    }
    ink.strokeStyle = style.color;
    ink.setLineDash([5, 4]);
    across(y(1));
    ink.setLineDash([]);
    ink.textBaseline = "alphabetic";
    ink.textAlign = "center";
    for (let tick = 0; tick <= 4; tick++) {
      const seconds = (data.seconds * tick) / 4;
      ink.textAlign = tick === 4 ? "right" : "center";
      ink.fillText(`${plain(seconds)} s`, x(seconds), height - 8);
    }
    for (const { colour, moments } of data.lanes) {
      const past = moments.filter((moment) => moment.seconds <= time.at + 1e-6 && moment.ratio > 0);
      const places = past.map((moment) => [x(Math.min(moment.seconds, data.seconds)), y(moment.ratio)]);
      line(ink, places, colour, 2);
      ink.fillStyle = colour;
      places.forEach(([px, py], index) => {
        ink.beginPath();
        ink.arc(px, py, index === places.length - 1 ? 4.5 : 2.5, 0, 2 * Math.PI);
        ink.fill();
      });
    }
    counted(chart);

    function across(at) {
      ink.beginPath();
      ink.moveTo(left, at);
      ink.lineTo(right, at);
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
