// Rows that Streamlit has drawn are dragged by their grips; where one is dropped is told, and the page draws it there.
function begin() {
  return { rows: [], over() { for (const row of this.rows) row.style.transform = ""; } };
}

function show(me) {
  if (!me.waits("press")) me.listen("press", { pointerdown: (event) => take(me, event) });
  return () => {};
}

function take(me, event) {
  const rows = me.data.rows.map((key) => document.querySelector(`.st-key-${key.replace(/[^a-zA-Z0-9_-]/g, "-")}`));
  const from = rows.findIndex((row) => row?.contains(event.target));
  if (from < 0 || rows.includes(null) || event.button || !event.target.closest("[class*='-grip']")) return;
  event.preventDefault();  // no text is marked meanwhile
  const places = rows.map((row) => row.getBoundingClientRect()), start = event.clientY;
  const step = rows.length > 1 ? places[1].top - places[0].top : 0;
  let to = from;
  me.rows = rows;
  const move = ({ clientY }) => {
    const middle = places[from].top + places[from].height / 2 + clientY - start;
    to = places.filter((place, i) => i !== from && middle > place.top + place.height / 2).length;
    rows.forEach((row, i) => {
      const makesRoom = Math.sign(from - i) * (i !== from && i >= Math.min(from, to) && i <= Math.max(from, to));
      row.style.transform = `translateY(${i === from ? clientY - start : makesRoom * step}px)`;
    });
  };
  const end = (drops) => {
    me.drop("drag");
    me.over();
    if (drops && to !== from) me.send("moved", { row: me.data.rows[from], to });
  };
  me.listen("drag", {
    pointermove: move,
    pointerup: () => end(true),
    pointercancel: () => end(false),
    keydown: ({ key }) => key === "Escape" && end(false),
  });
}
