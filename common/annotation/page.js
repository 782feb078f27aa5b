// Shows views and asks for the next one. `element` and `server` come from gradio's HTML component.
const find = (selector) => element.querySelector(selector);
const all = (selector) => [...element.querySelectorAll(selector)];
const slot = (name, text) => { find(`[data-slot=${name}]`).textContent = text; };
const LETTERS = { left: "A", right: "B" };

let view = { welcome: true };
let stages = {};        // what can be played now: side -> { medium, heard }
let since = 0;          // when the item was shown
let busy = false;

const memory = {        // a browser may refuse to remember
  get: (key) => { try { return localStorage.getItem(`upspiral.${key}`); } catch { return null; } },
  set: (key, value) => {
    try {
      if (value) localStorage.setItem(`upspiral.${key}`, value);
      else localStorage.removeItem(`upspiral.${key}`);
    } catch { /* then it is asked again */ }
  },
};

async function ask(act, more = {}) {
  if (busy) return;
  busy = true;
  try {
    const who = { rater: memory.get("rater"), check: memory.get("check") };
    const next = await server.view({ act, ...who, ...more });
    // Gradio makes nothing of a refused connection, and something else of an error.
    if (!next?.rater && !next?.welcome) throw new Error("no view");
    show(next);
  } catch {
    complain("The server does not answer. What you did last is not stored; please try again.");
  } finally {
    busy = false;
  }
}

function complain(text) {
  slot("error", text || "");
  find(".error").hidden = !text;
}

function show(next) {
  view = next;
  if (view.rater) memory.set("rater", view.rater);
  if (view.check) memory.set("check", view.check);
  complain(view.error);
  for (const side of Object.values(stages)) side.medium.pause?.();
  stages = {};
  for (const place of all("[data-stage]")) place.replaceChildren();
  for (const section of all("[data-view]")) section.hidden = !view[section.dataset.view];
  find(".who").hidden = !view.rater;
  slot("rater", view.rater || "");
  if (view.trial) {
    slot("trial", `${view.trial.number} of ${view.trial.total}`);
    stage("trial", { src: view.trial.sound, audio: true }, "the three tones", "p");
  }
  if (view.failed) slot("right", `${view.right} of ${view.trials}`);
  if (view.done) slot("total", view.total);
  if (view.item) {
    const share = `${(100 * view.answered) / view.total}%`;
    const bar = find(".progress");
    bar.setAttribute("aria-valuemax", view.total);
    bar.setAttribute("aria-valuenow", view.answered);
    bar.firstElementChild.style.width = share;
    slot("number", `Pair ${view.item.number} of ${view.total}`);
    slot("question", view.question);
    slot("text", view.item.text);
    stage("left", view.item.left, "A", "1");
    stage("right", view.item.right, "B", "2");
    find("[data-view=item] [data-do=back]").hidden = view.item.first;
    since = performance.now();
  }
  open();
  const shown = find("[data-view]:not([hidden])");
  (shown.querySelector("input") || shown.querySelector("h1"))?.focus();
}

// A sound gets a large button; a picture or a film is shown as it is.
function stage(side, about, label, key) {
  const place = find(`[data-stage=${side}]`);
  const kind = about.image ? "img" : about.video ? "video" : "audio";
  const medium = document.createElement(kind);
  const state = { medium, heard: kind === "img" };
  medium.addEventListener("error", () => complain(`${label} could not be loaded. Please reload this page.`));
  medium.addEventListener("ended", () => { state.heard = true; open(); });
  medium.preload = "auto";
  medium.src = about.src;
  stages[side] = state;
  if (kind !== "audio") {
    medium.controls = true;
    medium.alt = label;
    place.replaceChildren(medium);
    return;
  }
  const button = document.createElement("button");
  button.type = "button";
  button.className = "player";
  button.innerHTML = "<b></b><span class='state'></span><i></i>";
  const [name, what, bar] = button.children;
  name.textContent = `▶ ${label}`;
  const hint = document.createElement("kbd");
  hint.textContent = key;
  hint.setAttribute("aria-hidden", "true");
  name.append(hint);
  const draw = () => {
    const playing = !medium.paused && !medium.ended;
    button.classList.toggle("playing", playing);
    button.classList.toggle("heard", state.heard);
    what.textContent = playing ? "playing" : state.heard ? "play again" : "play";
    button.setAttribute("aria-label", `${label}: ${what.textContent}`);
    bar.style.width = medium.duration ? `${(100 * medium.currentTime) / medium.duration}%` : "0";
  };
  for (const event of ["play", "pause", "ended", "timeupdate"]) medium.addEventListener(event, draw);
  button.addEventListener("click", () => play(side));
  place.replaceChildren(button, medium);
  draw();
}

function play(side) {
  for (const [name, other] of Object.entries(stages)) if (name !== side) other.medium.pause?.();
  const medium = stages[side]?.medium;
  if (!medium?.play) return;
  medium.currentTime = 0;
  medium.play().catch(() => complain("The browser does not let this play. Please press once more."));
}

// Answers are open once all that is on the stage has been heard to its end.
function open() {
  const heard = Object.values(stages).every((side) => side.heard);
  for (const button of all("[data-answer], [data-pick]")) button.disabled = !heard;
  const missing = Object.entries(stages).filter(([, s]) => !s.heard).map(([name]) => LETTERS[name]);
  slot("hint", missing.length ? `Play ${missing.join(" and ")} to the end to answer.` : "");
}

function act(button) {
  const { answer, pick, do: what } = button.dataset;
  if (answer) {
    const seconds = (performance.now() - since) / 1000;
    ask("answer", { item: view.item.id, answer, seconds });
  } else if (pick) {
    ask("check", { picks: [...view.trial.picks, Number(pick)], attempt: view.trial.attempt });
  } else if (what === "back") {
    ask("back", { item: view.item?.id });
  } else if (what === "check") {
    ask("check", { picks: [], attempt: view.attempt || 0 });
  } else if (what === "skip" || what === "fail") {
    ask("begin", { check: what === "skip" ? "skipped" : "failed" });
  } else if (what === "leave") {
    memory.set("rater", "");
    memory.set("check", "");
    show({ welcome: true });
  }
}

element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do], button[data-answer], button[data-pick]");
  if (button && !button.disabled) act(button);
});

element.addEventListener("submit", (event) => {
  event.preventDefault();
  ask("begin", { rater: find("#blind-name").value });
});

document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest?.("input, textarea, select")) return;
  const key = event.key.toLowerCase();
  const keys = view.item
    ? { a: "[data-answer=left]", t: "[data-answer=tie]", b: "[data-answer=right]",
        1: "[data-stage=left] button", 2: "[data-stage=right] button",
        u: "[data-view=item] [data-do=back]" }
    : view.trial
      ? { p: "[data-stage=trial] button", 1: "[data-pick='0']", 2: "[data-pick='1']", 3: "[data-pick='2']" }
      : view.done ? { u: "[data-view=done] [data-do=back]" } : {};
  const button = keys[key] && find(keys[key]);
  if (button && !button.hidden) button.click();
});

if (memory.get("rater")) ask("begin"); else show(view);
