// A sound: its spectrogram above its waveform, both over the seconds, and a line where it is heard.
const FADE = 0.03;    // seconds in which one sound goes over into the next
const WAVE = 44;      // CSS pixels of the waveform
const LEFT = 40, BELOW = 20, GAP = 6;
const WIDEST = 520;

// All players share what plays, so that one is heard at a time.
const loud = (globalThis.simulacraSound ??= { context: null, now: null });

function begin() {
  return { src: null, samples: null, heard: undefined, at: 0, playing: null, follows: true, pressed: 0, held: false,
           over() { if (loud.now === this.playing) quiet(); } };
}

function quiet() {
  const playing = loud.now;
  if (!playing) return;
  loud.now = null;
  const { gain } = playing.volume, now = loud.context.currentTime;
  gain.cancelScheduledValues(now);
  gain.setValueAtTime(gain.value, now);
  gain.linearRampToValueAtTime(0, now + FADE);
  playing.source.stop(now + FADE);
  playing.ended();
}

function show(me) {
  const { data, box, find } = me, canvas = find("canvas"), button = find(".play"), follow = find(".follow");
  me.load([data.picture]);
  canvas.setAttribute("aria-label", `${data.alt}: click where it is to be heard from; space plays, arrows go to another place`);
  canvas.setAttribute("aria-valuemin", "0");
  canvas.setAttribute("aria-valuemax", String(data.seconds));
  follow.hidden = data.hear === null;
  if (data.sound !== me.src) {
    me.src = data.sound;
    me.samples = samples(data.sound);
    if (me.playing === null) me.at = 0;
  }
  if (data.hear !== null) {
    me.listen("press", {
      pointerdown: () => { me.pressed = performance.now(); me.held = true; },
      pointerup: () => { me.held = false; },
    });
    if (me.heard === undefined) me.heard = data.hear; // what was there before anybody pressed is not played
    if (data.hear !== me.heard) {
      me.heard = data.hear;
      const active = navigator.userActivation?.hasBeenActive ?? true;
      if (me.follows && active) {
        play(me.held && me.playing ? place() : 0);
        box.dataset.wait = (performance.now() - me.pressed).toFixed(1);
        box.dataset.plays = String(Number(box.dataset.plays || 0) + 1);
      }
    }
  }
  canvas.onpointerdown = (event) => { me.hold = true; canvas.setPointerCapture(event.pointerId); play(seconds(event)); };
  canvas.onpointermove = (event) => { if (me.hold && !me.playing) go(seconds(event)); };
  canvas.onpointerup = canvas.onpointercancel = () => { me.hold = false; };
  canvas.onkeydown = (event) => {
    if (event.key === " " || event.key === "Enter") toggle();
    else if (event.key === "Home") go(0);
    else if (event.key in ARROWS && ARROWS[event.key][0]) {
      const to = place() + 0.05 * ARROWS[event.key][0];
      if (me.playing) play(clamp(to, 0, data.seconds)); else go(to);
    } else return;
    event.preventDefault();
  };
  button.onclick = toggle;
  follow.onclick = () => {
    me.follows = !me.follows;
    follow.setAttribute("aria-pressed", String(me.follows));
    me.redraw();
  };
  return draw;

  // 16 bits a sample behind a header of 44 bytes, as the server writes it.
  function samples(file) {
    const text = atob(file), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return Float32Array.from(new Int16Array(bytes.buffer.slice(44)), (value) => value / 32768);
  }

  function seconds(event) {
    const r = canvas.getBoundingClientRect();
    return clamp((event.clientX - r.left - LEFT) / (r.width - LEFT - 1), 0, 1) * data.seconds;
  }

  function place() {
    return me.playing ? Math.min(data.seconds, me.playing.from + loud.context.currentTime - me.playing.since) : me.at;
  }

  function go(to) { me.at = clamp(to, 0, data.seconds); me.redraw(); }

  function toggle() {
    if (me.playing) { me.at = place(); quiet(); } else play(me.at >= data.seconds - 0.01 ? 0 : me.at);
  }

  function play(from) {
    const context = (loud.context ??= new AudioContext());
    context.resume();
    quiet();
    const buffer = context.createBuffer(1, me.samples.length, data.rate);
    buffer.copyToChannel(me.samples, 0);
    const source = context.createBufferSource(), volume = context.createGain(), now = context.currentTime;
    source.buffer = buffer;
    source.connect(volume).connect(context.destination);
    volume.gain.setValueAtTime(0, now);
    volume.gain.linearRampToValueAtTime(1, now + FADE);
    const playing = { source, volume, from, since: now, ended() { if (me.playing === playing) { me.playing = null; me.redraw(); } } };
    source.onended = () => { if (loud.now === playing) { loud.now = null; me.at = 0; } playing.ended(); };
    source.start(now, Math.min(from, data.seconds));
    loud.now = me.playing = playing;
    me.redraw();
  }

  function draw() {
    const ratio = me.ratio(), wide = Math.min(box.clientWidth, WIDEST);
    const high = data.height + GAP + WAVE + BELOW;
    if (wide < LEFT + 20) return;
    sized(canvas, Math.round(wide * ratio), Math.round(high * ratio), ratio);
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, wide, high);
    const w = wide - LEFT - 1, text = me.colour("text-color"), faint = me.colour("border-color") || "#8888";
    const picture = me.picture(data.picture);
    if (picture) {
      me.enlarge(pen, data.height / picture.naturalHeight);
      pen.drawImage(picture, LEFT, 0, w, data.height);
    }
    pen.font = `11px ${me.colour("font") || "sans-serif"}`;
    pen.fillStyle = text;
    pen.textAlign = "right"; pen.textBaseline = "middle";
    let last = Infinity;
    for (const [word, share] of data.ticks) {
      const y = (1 - share) * data.height;
      if (last - y < 13 && last !== Infinity) continue;
      last = y;
      pen.fillText(word, LEFT - 6, clamp(y, 6, data.height - 6));
      pen.fillRect(LEFT - 4, Math.round(y), 4, 1);
    }
    pen.textAlign = "left";
    pen.fillText("Hz", 0, data.height + GAP + 6);
    const top = data.height + GAP, middle = top + WAVE / 2, n = me.samples.length;
    pen.fillStyle = faint;
    pen.fillRect(LEFT, Math.round(middle), w, 1);
    pen.fillStyle = me.accent();
    for (let x = 0; x < w; x++) {
      let low = 0, most = 0;
      for (let i = Math.floor((x * n) / w), end = Math.floor(((x + 1) * n) / w); i < end; i++) {
        const value = me.samples[i];
        if (value < low) low = value; else if (value > most) most = value;
      }
      pen.fillRect(LEFT + x, middle - most * (WAVE / 2), 1, Math.max(0.6, ((most - low) * WAVE) / 2));
    }
    pen.fillStyle = text;
    pen.textBaseline = "top";
    for (let s = 0; s <= data.seconds; s += 0.25) {
      const x = LEFT + (s / data.seconds) * w;
      pen.fillRect(Math.round(x), top + WAVE, 1, 4);
      pen.textAlign = s ? "center" : "left";
      pen.fillText(s === 1 ? "1 s" : String(s), Math.min(x, wide - 8), top + WAVE + 6);
    }
    const at = place(), x = LEFT + (at / data.seconds) * w;
    pen.fillStyle = me.accent();
    pen.fillRect(x - 1, 0, 2, top + WAVE);
    button.textContent = me.playing ? "❚❚" : "▶";
    button.setAttribute("aria-label", `${me.playing ? "Hold" : "Play"} ${data.alt}`);
    find("output").textContent = `${at.toFixed(2)} / ${data.seconds.toFixed(2)} s`;
    canvas.setAttribute("aria-valuenow", at.toFixed(2));
    canvas.setAttribute("aria-valuetext", `${at.toFixed(2)} seconds`);
    counted(canvas);
    if (me.playing) me.frame("play", () => me.draw());
  }
}
