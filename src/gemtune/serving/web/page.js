// The page: fetches the model when asked to, proves it on this device, then answers.

import { Engine } from "./engine.js";
import { freeBytes, isStored, modelBlob, removeModel } from "./model_store.js";

const $ = (id) => document.getElementById(id);
const megabytes = (bytes) => `${Math.round(bytes / 1e6)} MB`;
const site = await (await fetch("site.json")).json();
let engine = null;
let running = null; // the AbortController of a reply that is being written

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
  $("text").placeholder = site.placeholder;
  $("text-label").textContent = site.placeholder;
  for (const text of site.examples) $("examples").append(exampleButton(text));
  if (!isSecureContext) throw new Error("This page needs https, or an address that begins with http://localhost.");
  await isolate();
  if (await isStored(site.model.parts)) return start();
  $("start-text").textContent = `The model is ${megabytes(site.model.bytes)}. It is fetched once, and then works without a network, too.`;
  $("start-button").textContent = `Download ${megabytes(site.model.bytes)}`;
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

function progress(text, share) {
  $("loading-text").textContent = text;
  if (share === undefined) $("loading-bar").removeAttribute("value");
  else $("loading-bar").value = share;
  show("loading");
}

async function start() {
  try {
    const { bytes, parts } = site.model;
    if (!(await isStored(parts)) && (await freeBytes()) < bytes) {
      throw new Error(`The model needs ${megabytes(bytes)}; this browser has less room for the page. Free some space.`);
    }
    const total = megabytes(bytes);
    const model = await modelBlob(parts, (done) => progress(`Fetching the model: ${megabytes(done)} of ${total}`, done / bytes));
    engine = await provenEngine(model);
    $("engine").textContent = `Answered by your ${engine.name} · ${total} `;
    $("remove").hidden = false;
    show("talk");
    $("text").focus();
  } catch (error) {
    fail(error);
  }
}

/** The fastest engine that gives the replies which the model gave when it was exported. */
async function provenEngine(model) {
  const found = [];
  for (const gpu of (await Engine.hasGpu()) ? [true, false] : [false]) {
    progress("Loading the model");
    let candidate = null;
    try {
      candidate = await Engine.load(model, { gpu, context: site.context });
      const wrong = await firstWrong(candidate);
      if (!wrong) return candidate;
      found.push(`${candidate.name}: “${wrong.found}” where “${wrong.reply}” was right`);
    } catch (error) {
      found.push(`${gpu ? "WebGPU" : "processor"}: ${error.message}`);
    }
    await candidate?.stop();
  }
  throw new Error(`The model does not run as it should in this browser, so it does not answer here. ${found.join("; ")}`);
}

async function firstWrong(candidate) {
  for (const [number, { prompt, reply, tokens }] of site.golden.entries()) {
    progress(`Checking that this device answers right: ${number + 1} of ${site.golden.length}`, number / site.golden.length);
    const { text } = await candidate.answer(prompt, { limit: tokens });
    if (!text.startsWith(reply)) return { found: text, reply };
  }
  return null;
}

async function ask(typed) {
  const text = typed.trim();
  if (running) return running.abort();
  if (!text) return;
  running = new AbortController();
  $("reply").classList.add("waiting");
  $("reply").disabled = true;
  $("reply-note").textContent = "";
  $("send").setAttribute("aria-label", "Stop");
  showReply("");
  try {
    const prompt = site.prompt.before + text + site.prompt.after;
    const settings = { ...site.sampling, signal: running.signal, onText: showReply };
    const { speed } = await engine.answer(prompt, settings);
    $("reply-note").textContent = `${speed.toFixed(speed < 10 ? 1 : 0)} tokens per second · tap to copy`;
  } catch (error) {
    if (!running.signal.aborted) $("reply-note").textContent = error.message;
  } finally {
    running = null;
    $("reply").classList.remove("waiting");
    $("reply").disabled = !$("reply-text").textContent;
    $("send").setAttribute("aria-label", "Ask");
  }
}

function showReply(text) {
  $("reply-text").textContent = text;
  $("reply").classList.toggle("emoji", /^[\p{Emoji}\p{Emoji_Component}\s]+$/u.test(text) && !/^[\d\s#*]+$/.test(text));
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
$("remove").addEventListener("click", async () => {
  await engine.stop();
  await removeModel();
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
$("reply").addEventListener("click", async () => {
  await navigator.clipboard.writeText($("reply-text").textContent);
  $("reply-note").textContent = "Copied";
});

begin().catch(fail);
