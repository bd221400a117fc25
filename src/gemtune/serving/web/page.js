// The page: fetches the tuned model when asked to, proves it on this device, then answers; the base model beside it on
// a switch.

import { Engine } from "./engine.js";
import { freeBytes, missingBytes, modelBlob, removeModels, removeOthers } from "./model_store.js";

const $ = (id) => document.getElementById(id);
const megabytes = (bytes) => `${Math.round(bytes / 1e6)} MB`;
const site = await (await fetch("site.json")).json();
const engines = {}; // "tuned" and, while the switch is on, "base"
let running = null; // the AbortController of replies that are being written
let asked = ""; // what was last answered

function show(id) {
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== id;
}

function fail(error) {
  console.error(error);
  $("failure-text").textContent = error.message || String(error);
  show("failure");
}

async function begin() {
  $("name").textContent = document.title = site.name;
  $("origin").textContent = `${site.base}, fine-tuned. It runs in your browser.`;
  $("base").querySelector("h2").textContent = `${site.base}, as it was`;
  $("text").placeholder = site.placeholder;
  $("text-label").textContent = site.placeholder;
  for (const text of site.examples) $("examples").append(exampleButton(text));
  if (!isSecureContext) throw new Error("This page needs https, or an address that begins with http://localhost.");
  await isolate();
  await removeOthers([...site.models.tuned.parts, ...site.models.base.parts]);
  const missing = await missingBytes(site.models.tuned.parts);
  if (!missing) return start();
  $("start-text").textContent = `The model is ${megabytes(missing)}. It is fetched once, and then works without a network, too.`;
  $("start-button").textContent = `Download ${megabytes(missing)}`;
  show("start");
}

/** Several threads need a page that is isolated from others; the service worker sees to that after one reload. */
async function isolate() {
  if (!navigator.serviceWorker) return;
  await navigator.serviceWorker.register("service_worker.js").catch(() => null);
  if (crossOriginIsolated || sessionStorage.getItem("reloaded")) return;
  sessionStorage.setItem("reloaded", "yes");
  const registration = await navigator.serviceWorker.getRegistration();
  if (!registration) return;
  await navigator.serviceWorker.ready;
  location.reload();
  await new Promise(() => {});
}

/** Says in the texts and bars of a place how far a load is. */
function progressIn(place) {
  return (text, share) => {
    $(`${place}-text`).textContent = text;
    if (share === undefined) $(`${place}-bar`).removeAttribute("value");
    else $(`${place}-bar`).value = share;
  };
}

async function start() {
  try {
    show("loading");
    const gpu = await Engine.gpu();
    const { engine, refused } = await loaded("tuned", gpu ? [gpu, null] : [null], progressIn("loading"));
    engines.tuned = engine;
    const instead = refused.length ? `, because ${refused.join("; ")}` : "";
    $("engine").textContent = `Answered by your ${engine.name}${instead} · ${megabytes(site.models.tuned.bytes)} `;
    $("remove").hidden = false;
    await offerComparison();
    show("talk");
    $("text").focus();
  } catch (error) {
    fail(error);
  }
}

/** A model in the fastest engine that gives the replies which it gave when it was exported, and why others do not. */
async function loaded(name, gpus, progress) {
  const { parts } = site.models[name];
  const missing = await missingBytes(parts);
  if ((await freeBytes()) < missing) {
    throw new Error(`The model needs ${megabytes(missing)}; this browser has less room for the page. Free some space.`);
  }
  const fetching = (done) => progress(`Fetching the model: ${megabytes(done)} of ${megabytes(missing)}`, done / missing);
  const model = await modelBlob(parts, fetching);
  const refused = [];
  for (const gpu of gpus) {
    progress("Loading the model");
    let candidate = null;
    try {
      candidate = await Engine.load(model, { gpu, context: site.context });
      const wrong = await firstWrong(candidate, name, progress);
      if (!wrong) return { engine: candidate, refused };
      refused.push(`your ${candidate.name} says “${wrong.found}” where “${wrong.reply}” is right`);
    } catch (error) {
      refused.push(`your ${gpu ? `graphics card (WebGPU, ${gpu})` : "processor"} fails: ${error.message}`);
    }
    await candidate?.stop();
  }
  throw new Error(`The model does not run as it should in this browser, so it does not answer here: ${refused.join("; ")}`);
}

/**
 * A reply that is not what the model says. WebAssembly computes the same again, so what a browser's processor has shown
 * once is kept; a graphics card's driver changes, and is asked at every visit.
 */
async function firstWrong(candidate, name, progress) {
  const { parts, golden } = site.models[name];
  const proven = JSON.stringify([navigator.userAgent, parts.map((part) => part.sha256)]);
  if (!candidate.gpu && localStorage.getItem(`proven ${name}`) === proven) return null;
  for (const [number, { prompt, reply, tokens }] of golden.entries()) {
    progress(`Checking that this device answers right: ${number + 1} of ${golden.length}`, number / golden.length);
    const { text } = await candidate.answer(prompt, { limit: tokens });
    if (!text.startsWith(reply)) return { found: text, reply };
  }
  if (!candidate.gpu) localStorage.setItem(`proven ${name}`, proven);
  return null;
}

/** Says what the switch does, and what it fetches. */
async function offerComparison() {
  const missing = await missingBytes(site.models.base.parts);
  $("compare-text").textContent = `Compare with ${site.base}${missing ? ` · downloads ${megabytes(missing)}` : ""}`;
  $("compare-bar").hidden = true;
}

async function compare(isOn) {
  running?.abort();
  $("answers").classList.toggle("both", isOn);
  $("base").hidden = !isOn;
  if (!isOn) {
    await engines.base?.stop();
    delete engines.base;
    return;
  }
  $("compare").disabled = true;
  $("compare-bar").hidden = false;
  showReply("base", "");
  try {
    engines.base = (await loaded("base", [engines.tuned.gpu], progressIn("compare"))).engine;
    await offerComparison();
  } catch (error) {
    $("compare").checked = false;
    await compare(false);
    $("compare-text").textContent = error.message;
    $("compare-bar").hidden = true;
  }
  $("compare").disabled = false;
  if (engines.base && asked && !running) await ask(asked);
}

async function ask(typed) {
  const text = typed.trim();
  if (running) return running.abort();
  if (!text) return;
  asked = text;
  running = new AbortController();
  $("send").setAttribute("aria-label", "Stop");
  const names = ["tuned", "base"].filter((name) => engines[name]);
  for (const name of names) {
    showReply(name, "");
    note(name, "");
  }
  for (const name of names) if (!running.signal.aborted) await answer(name, text, running.signal);
  running = null;
  $("send").setAttribute("aria-label", "Ask");
}

/** One model's reply, in its place. */
async function answer(name, text, signal) {
  const card = $(name).querySelector(".reply");
  card.classList.add("waiting");
  card.disabled = true;
  try {
    const prompt = site.prompt.before + text + site.prompt.after;
    const settings = { ...site.sampling, signal, onText: (reply) => showReply(name, reply) };
    const { speed } = await engines[name].answer(prompt, settings);
    note(name, `${speed.toFixed(speed < 10 ? 1 : 0)} tokens per second · tap to copy`);
  } catch (error) {
    if (!signal.aborted) note(name, error.message);
  } finally {
    card.classList.remove("waiting");
    card.disabled = !card.textContent;
  }
}

function note(name, text) {
  $(name).querySelector(".note").textContent = text;
}

function showReply(name, text) {
  const card = $(name).querySelector(".reply");
  card.querySelector(".text").textContent = text;
  card.classList.toggle("emoji", /^[\p{Emoji}\p{Emoji_Component}\s]+$/u.test(text) && !/^[\d\s#*]+$/.test(text));
}

function exampleButton(text) {
  const entry = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.addEventListener("click", () => {
    $("text").value = text;
    ask(text);
  });
  entry.append(button);
  return entry;
}

$("start-button").addEventListener("click", start);
$("retry").addEventListener("click", () => location.reload());
$("compare").addEventListener("change", () => compare($("compare").checked));
$("remove").addEventListener("click", async () => {
  await Promise.all(Object.values(engines).map((engine) => engine.stop()));
  await removeModels();
  location.reload();
});
$("question").addEventListener("submit", (event) => {
  event.preventDefault();
  ask($("text").value);
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    ask($("text").value);
  }
});
for (const name of ["tuned", "base"]) {
  $(name).querySelector(".reply").addEventListener("click", async () => {
    await navigator.clipboard.writeText($(name).querySelector(".text").textContent);
    note(name, "Copied");
  });
}

begin().catch(fail);
