// A camera: pictures are taken for as long as a button is held, and go to the server burst by burst. One that the server
// does not confirm is sent again.
const AT_ONCE = 10, PATIENCE = 3000;
const REFUSED = {
  NotAllowedError: "The browser may not use the camera. Allow it beside the address, then start it again.",
  NotFoundError: "There is no camera. Connect one and start it again, or bring pictures as files.",
  NotReadableError: "The camera is in use by another program. Close that one, then start it again.",
};
const NOWHERE = "Browsers give the camera only to pages of this computer, or over https. Bring pictures as files here.";

function begin() { return { waiting: [], last: [], taken: 0, chosen: 0 }; }

function show(me) {
  const { data } = me, video = me.find("video"), label = me.find("input"), said = me.find("p"), strip = me.find(".strip");
  const [start, hold, next, back, other] = ["start", "hold", "next", "back", "other"].map((name) => me.find(`.${name}`));
  me.waiting = me.waiting.filter((shot) => shot.number > data.has);
  me.over = () => stop();
  start.onclick = () => (me.stream ? stop() : look());
  other.onclick = () => { me.chosen += 1; stop(); look(); };
  hold.onpointerdown = (event) => { hold.setPointerCapture(event.pointerId); press(); };
  hold.onpointerup = hold.onpointercancel = hold.onblur = release;
  hold.onkeydown = (event) => {
    if (event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    if (!event.repeat) press();
  };
  hold.onkeyup = release;
  hold.oncontextmenu = (event) => event.preventDefault();
  label.onkeydown = (event) => { if (event.key === "Enter") hold.focus(); };
  next.onclick = () => { label.value = ""; strip.replaceChildren(); label.focus(); };
  back.onclick = () => {
    const gone = me.last;
    me.waiting = me.waiting.filter((shot) => !gone.includes(shot.number));
    me.last = [];
    for (const each of [...strip.children].slice(-gone.length)) each.remove();
    me.trigger("burst", { shots: me.waiting, gone });
    me.draw();
  };
  return draw;

  async function look() {
    if (!navigator.mediaDevices?.getUserMedia) { me.why = NOWHERE; draw(); return; }
    try {
      const every = (await navigator.mediaDevices.enumerateDevices()).filter((each) => each.kind === "videoinput");
      const one = every[me.chosen % Math.max(1, every.length)]?.deviceId;
      const wanted = me.chosen && one ? { deviceId: { exact: one } } : { facingMode: "environment" };
      const stream = await navigator.mediaDevices.getUserMedia({ video: { ...wanted, width: { ideal: 640 } }, audio: false });
      if (me.ended) { for (const track of stream.getTracks()) track.stop(); return; }
      me.stream = stream;
      me.several = every.length > 1;
      video.srcObject = stream;
      await video.play();
      me.why = "";
    } catch (error) {
      me.why = REFUSED[error.name] ?? `The camera does not start (${error.name}). Bring pictures as files.`;
    }
    draw();
  }

  function stop() {
    release();
    for (const track of me.stream?.getTracks() ?? []) track.stop();
    me.stream = video.srcObject = null;
    draw();
  }

  function press() {
    if (!me.stream || me.held) return;
    me.held = true;
    me.last = [];
    take();
  }

  function release() {
    if (!me.held) return;
    me.held = false;
    me.drop("next");
    send();
    draw();
  }

  // Goes on while the button is held, over data that arrive meanwhile.
  function take() {
    if (me.data.room - me.waiting.length <= 0) { release(); return; }
    const sheet = document.createElement("canvas"), side = Math.min(video.videoWidth, video.videoHeight);
    sheet.width = sheet.height = me.data.side;
    const from = [(video.videoWidth - side) / 2, (video.videoHeight - side) / 2, side, side];
    sheet.getContext("2d").drawImage(video, ...from, 0, 0, me.data.side, me.data.side);
    const jpeg = sheet.toDataURL("image/jpeg", 0.85), picture = new Image();
    me.number = Math.max(Date.now(), me.number + 1);
    me.waiting.push({ number: me.number, label: label.value.trim(), jpeg });
    me.last.push(me.number);
    picture.src = jpeg;
    strip.append(picture);
    while (strip.children.length > 20) strip.firstChild.remove();
    if (me.waiting.length >= AT_ONCE) send();
    me.after("next", me.data.pace, take);
    draw();
  }

  function send() {
    if (me.ended || !me.waiting.length) return;
    me.trigger("burst", { shots: me.waiting });
    me.after("again", PATIENCE, send);
  }

  function draw() {
    const on = Boolean(me.stream), counts = new Map(me.data.counts);
    for (const shot of me.waiting) counts.set(shot.label, (counts.get(shot.label) ?? 0) + 1);
    start.textContent = on ? "Stop the camera" : "Start the camera";
    for (const each of [label, hold, next]) each.hidden = !on;
    hold.disabled = me.data.room - me.waiting.length <= 0;
    hold.classList.toggle("on", Boolean(me.held));
    hold.textContent = me.held ? `Taking pictures: ${me.last.length}` : "Hold to take pictures";
    other.hidden = !on || !me.several;
    back.hidden = !me.last.length;
    back.disabled = Boolean(me.held);
    me.find(".view").hidden = !on && !me.why;
    video.hidden = !on;
    said.textContent = hold.disabled ? "There is no room for more pictures." : me.why ?? "";
    me.find("output").textContent = [...counts].map(([name, count]) => `${name || "without a class"}: ${count}`).join(" · ");
  }
}
