// The link goes to the clipboard, and the page to the printer.
function begin() { return {}; }

function show(me) {
  const copy = me.find(".copy");
  copy.onclick = async () => {
    copy.textContent = (await copied(me.data.link, me.box)) ? "Copied" : "Not allowed";
    me.after("said", 2000, () => { copy.textContent = "Copy link"; });
  };
  me.find(".print").onclick = () => window.print();
  return () => {};
}

// Over plain http a browser gives no clipboard; there, what is selected is copied.
async function copied(text, box) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    box.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}
