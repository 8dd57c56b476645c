// Lays out every page in a frame of each width and sends the list of what does not fit. `tasks` is given.

const SLACK = 1; // pixels: rounding of the layout

// What one element needs and what it gets: beyond the nearest ancestor that clips or scrolls, nothing is seen.
function overhang(element, view) {
  let right = element.getBoundingClientRect().left + element.scrollWidth;
  for (const inner of element.querySelectorAll("mjx-math, math")) {
    right = Math.max(right, inner.getBoundingClientRect().right);
  }
  let room = view.innerWidth;
  for (let box = element; box; box = box.parentElement) {
    if (box.tagName !== "HTML" && box.tagName !== "BODY" && view.getComputedStyle(box).overflowX !== "visible") {
      const edge = box.getBoundingClientRect();
      room = Math.min(room, edge.left + box.clientLeft + box.clientWidth);
    }
  }
  return Math.round(right - room);
}

function measure(task, view) {
  const found = [];
  const say = (text) => found.push(`${task.page} at ${task.width}: ${text}`);
  const page = view.document;
  for (const element of page.querySelectorAll("mjx-container, math:not(mjx-container math), pre")) {
    const text = (element.closest("[data-text]") || element).textContent.trim().slice(0, 60);
    const what = element.tagName === "PRE" ? "code" : "formula";
    const over = overhang(element, view);
    if (over > SLACK) say(`${what} cut off by ${over} px: ${JSON.stringify(text)}`);
    if (element.querySelector("mjx-merror, merror")) say(`formula not understood: ${JSON.stringify(text)}`);
  }
  for (const element of page.querySelectorAll(".math")) {
    if (!element.querySelector("mjx-container, math")) say(`formula not set: ${element.textContent.slice(0, 60)}`);
  }
  const over = page.documentElement.scrollWidth - view.innerWidth;
  if (over > SLACK) {
    const wide = [...page.body.querySelectorAll("*")].filter((e) => e.getBoundingClientRect().right > view.innerWidth + SLACK);
    const names = wide.slice(0, 3).map((e) => `${e.tagName.toLowerCase()}.${e.className}`);
    say(`page wider than the screen by ${over} px: ${names.join(", ")}`);
  }
  return found;
}

async function look(task) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width: ${task.width}px; height: 900px; border: 0`;
  document.body.append(frame);
  await new Promise((done) => {
    frame.onload = done;
    frame.src = "/" + task.page;
  });
  const view = frame.contentWindow;
  if (view.MathJax && view.MathJax.startup) await view.MathJax.startup.promise;
  await view.document.fonts.ready;
  await new Promise((done) => setTimeout(done, 50));
  const found = measure(task, view);
  frame.remove();
  return found;
}

(async () => {
  const found = [];
  for (const task of tasks) {
    found.push(...(await look(task).catch((error) => [`${task.page} at ${task.width}: ${error}`])));
  }
  await fetch("/found", { method: "POST", body: JSON.stringify(found) });
})();
