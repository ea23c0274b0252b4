// What all components share. It stands in front of each one's script, in one module, and has the only export.
//
// A script defines two functions: `begin()` gives what it remembers of one element on a page, and `show(me)`, called with
// every data that arrive, wires the element and gives the function that draws it. What is remembered lives from the first
// data to the element's end; there all that waits, plays or watches is stopped here, so that no script can forget to.
const stages = new WeakMap();

export default function ({ data: sent, parentElement, setStateValue, setTriggerValue }) {
  if (!stages.has(parentElement)) stages.set(parentElement, stage(parentElement));
  const me = stages.get(parentElement), data = Array.isArray(sent) ? sent[0] : sent;  // or bytes
  Object.assign(me, { data, smooth: data.smooth, tell: setStateValue, trigger: setTriggerValue });
  me.draw = show(me);
  me.redraw();
  return () => { me.end(); stages.delete(parentElement); };
}

function stage(root) {
  const box = root.querySelector(".box"), pending = new Map(), pictures = new Map();
  const observer = new ResizeObserver(() => { me.resized = true; me.redraw(); });
  const me = {
    box, number: 0, resized: true,
    find: (name) => root.querySelector(name),
    redraw: () => me.frame("draw", () => me.draw()),  // once, with the next picture of the screen

    // What is to happen later has a name: asked for again, a wait begins anew, and a frame comes once.
    after(name, wait, act) {
      me.drop(name);
      const timer = setTimeout(() => { pending.delete(name); act(); }, wait);
      pending.set(name, () => clearTimeout(timer));
    },
    frame(name, act) {
      if (pending.has(name)) return;
      const timer = requestAnimationFrame((now) => { pending.delete(name); act(now); });
      pending.set(name, () => cancelAnimationFrame(timer));
    },
    waits: (name) => pending.has(name),
    drop(name) { pending.get(name)?.(); pending.delete(name); },

    // Hears the whole page, since a drag leaves its element; that ends by its name, too.
    listen(name, heard) {
      me.drop(name);
      const listeners = new AbortController(), { signal } = listeners;
      for (const [kind, act] of Object.entries(heard)) document.addEventListener(kind, act, { signal });
      pending.set(name, () => listeners.abort());
    },

    // Tells the server something under a number that is new for each time.
    send(name, what) {
      me.number = Math.max(Date.now(), me.number + 1);
      me.tell(name, { number: me.number, ...what });
    },

    // Loads pictures by their addresses and forgets all others; `picture` gives one as soon as it can be drawn.
    load(sources) {
      const wanted = new Set(sources);
      for (const source of pictures.keys()) if (!wanted.has(source)) pictures.delete(source);
      for (const source of wanted) {
        if (!source || pictures.has(source)) continue;
        const image = new Image();
        image.onload = me.redraw;
        image.src = source;
        pictures.set(source, image);
      }
    },
    picture(source) {
      const image = pictures.get(source);
      return image?.complete && image.naturalWidth ? image : null;
    },

    ratio: () => window.devicePixelRatio || 1,
    colour: (name) => getComputedStyle(box).getPropertyValue(`--st-${name}`),
    accent: () => me.colour("primary-color") || "#4b49c8",
    onAccent: () => me.colour("background-color") || "#fff",  // what stands on the accent
    // Smooth where the visitor wants it, or where squares would not be equal.
    enlarge(pen, zoom) {
      pen.imageSmoothingEnabled = me.smooth || zoom % 1 !== 0;
      pen.imageSmoothingQuality = "high";
    },
    end() {
      observer.disconnect();
      for (const cancel of pending.values()) cancel();
      me.ended = true;
      me.over?.();  // what a script has open outside of the page, such as a camera
    },
    ...begin(),
  };
  observer.observe(box);
  return me;
}

// Gives a canvas so many device pixels; setting a size clears it, so an equal one is left alone.
function sized(canvas, width, height, ratio) {
  if (canvas.width === width && canvas.height === height) return false;
  [canvas.width, canvas.height] = [width, height];
  canvas.style.width = `${width / ratio}px`;
  canvas.style.height = `${height / ratio}px`;
  return true;
}

function counted(canvas) { canvas.dataset.drawn = String(Number(canvas.dataset.drawn || 0) + 1); }

// Where an event is on an element, as shares of its sides.
function share(event, element) {
  const r = element.getBoundingClientRect();
  return [(event.clientX - r.left) / r.width, (event.clientY - r.top) / r.height];
}

function clamp(value, low, high) { return Math.min(high, Math.max(low, value)); }

const ARROWS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// A line of points in device pixels.
function line(pen, points, colour, width) {
  pen.beginPath();
  points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.lineJoin = "round"; pen.strokeStyle = colour; pen.lineWidth = width;
  pen.stroke();
}

// A short word on a pill around a place.
function pill(pen, [x, y], text, colour, ratio, ink = "#fff") {
  pen.font = `600 ${11 * ratio}px sans-serif`;
  const half = Math.max(9 * ratio, pen.measureText(text).width / 2 + 5 * ratio);
  pen.beginPath(); pen.roundRect(x - half, y - 9 * ratio, 2 * half, 18 * ratio, 9 * ratio);
  pen.fillStyle = colour; pen.fill(); pen.lineWidth = 1.5 * ratio; pen.strokeStyle = "#fff"; pen.stroke();
  pen.fillStyle = ink; pen.textAlign = "center"; pen.textBaseline = "middle";
  pen.fillText(text, x, y + ratio * 0.5);
}

// A spot of a colour, as legends show it.
function spotted(colour) {
  const spot = document.createElement("i");
  spot.style.background = colour;
  return spot;
}

// The slider, the button that plays and the word of a film whose time runs from 0 to `end`, in `pace` ms for each unit.
// With a `step` time jumps. Whoever watches the end stays there when the film grows.
function film(me, { end, pace, step = 0, loop = false, moment, replay }) {
  const [slider, button, output] = ["input", "button", "output"].map((name) => me.find(`.film ${name}`));
  const playing = () => me.waits("film");
  const now = (me.film ??= { at: end, end });
  if (!playing() && now.at >= now.end) now.at = end;
  Object.assign(now, { end, at: Math.min(now.at, end), say });
  slider.max = end;
  slider.step = step || "any";
  slider.setAttribute("aria-label", moment);
  slider.oninput = () => { now.at = Number(slider.value); stop(); };
  button.onclick = () => (playing() ? stop() : play());
  return now;

  function stop() { me.drop("film"); me.draw(); }

  function play() {
    const start = now.at >= now.end ? 0 : now.at, began = performance.now();
    const tick = (when) => {
      let at = start + Math.max(0, when - began) / pace;
      if (loop) at %= now.end + step;
      const ends = at >= now.end && !loop;
      at = Math.min(now.end, step ? Math.floor(at / step) * step : at);
      if (!ends) me.frame("film", tick);
      if (at === now.at && !ends) return;
      now.at = at;
      me.draw();
    };
    me.frame("film", tick);
    now.at = start;
    me.draw();
  }

  function say(words) {
    slider.value = now.at;
    slider.setAttribute("aria-valuetext", words);
    output.textContent = words;
    button.textContent = playing() ? "❚❚" : "▶";
    button.setAttribute("aria-label", playing() ? "Pause" : replay);
  }
}
