// Lays out a page in a frame of each width and sends the list of what is wrong with it. `tasks` is given.

const SLACK = 1; // pixels: rounding of the layout

// Whether something beyond the edge can be scrolled to, in a box of its own.
function scrolls(element, view) {
  for (let box = element.parentElement; box; box = box.parentElement) {
    if (["auto", "scroll"].includes(view.getComputedStyle(box).overflowX)) return true;
  }
  return false;
}

function measure(task, view) {
  const found = [];
  const say = (text) => found.push(`${task.page} at ${task.width}: ${text}`);
  const page = view.document;
  const over = page.documentElement.scrollWidth - view.innerWidth;
  if (over > SLACK) say(`wider than the screen by ${over} px`);
  for (const element of page.querySelectorAll("body *")) {
    if (element.getBoundingClientRect().right > view.innerWidth + SLACK && !scrolls(element, view)) {
      say(`${element.tagName.toLowerCase()} is cut off: ${element.textContent.slice(0, 40)}`);
    }
  }
  for (const image of page.images) {
    if (!image.complete || image.naturalWidth === 0) say(`a picture is not there: ${image.alt}`);
    if (!image.alt) say("a picture has no words");
  }
  for (const link of page.querySelectorAll("a[href^='#']")) {
    if (!page.getElementById(link.getAttribute("href").slice(1))) say(`${link.textContent} leads nowhere`);
  }
  for (const entry of view.performance.getEntriesByType("resource")) {
    if (!entry.name.startsWith("data:")) say(`asks for ${entry.name}`);
  }
  if (page.scripts.length) say("has scripts");
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
  const found = measure(task, frame.contentWindow);
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
