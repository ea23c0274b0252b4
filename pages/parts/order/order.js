// Rows that Streamlit has drawn are dragged by their grips; where one is dropped is told, and the page draws it there.
function begin() {
  const listeners = new AbortController();
  return { listeners, over: () => listeners.abort() };
}

function show(me) {
  if (!me.listens) {
    const { signal } = me.listeners;
    document.addEventListener("pointerdown", (event) => take(me, event), { signal });
    me.listens = true;
  }
  return () => {};
}

function take(me, event) {
  const rows = me.data.rows.map((key) => document.querySelector(`.st-key-${key.replace(/[^a-zA-Z0-9_-]/g, "-")}`));
  const from = rows.findIndex((row) => row?.contains(event.target));
  if (from < 0 || rows.includes(null) || event.button || !event.target.closest("[class*='-grip']")) return;
  event.preventDefault();  // no text is marked meanwhile
  const places = rows.map((row) => row.getBoundingClientRect()), start = event.clientY;
  const step = rows.length > 1 ? places[1].top - places[0].top : 0, ends = new AbortController();
  let to = from;
  const move = ({ clientY }) => {
    const middle = places[from].top + places[from].height / 2 + clientY - start;
    to = places.filter((place, i) => i !== from && middle > place.top + place.height / 2).length;
    rows.forEach((row, i) => {
      const makesRoom = Math.sign(from - i) * (i !== from && i >= Math.min(from, to) && i <= Math.max(from, to));
      row.style.transform = `translateY(${i === from ? clientY - start : makesRoom * step}px)`;
    });
  };
  const end = (drops) => {
    ends.abort();
    for (const row of rows) row.style.transform = "";
    if (drops && to !== from) me.send("moved", { row: me.data.rows[from], to });
  };
  const { signal } = ends;
  document.addEventListener("pointermove", move, { signal });
  document.addEventListener("pointerup", () => end(true), { signal });
  document.addEventListener("pointercancel", () => end(false), { signal });
  document.addEventListener("keydown", ({ key }) => key === "Escape" && end(false), { signal });
  me.listeners.signal.addEventListener("abort", () => end(false), { signal });
}
