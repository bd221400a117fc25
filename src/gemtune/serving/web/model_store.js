// Models on the visitor's device: fetched once in parts, each checked against its hash, kept for the next visit. A part
// that two models have in common is fetched and kept once.

const CACHE = "gemtune-model";

const url = (part) => new URL(part.file, import.meta.url).href;

/** How many bytes of these parts are still to be fetched. */
export async function missingBytes(parts) {
  const cache = await caches.open(CACHE);
  const sizes = await Promise.all(parts.map(async (part) => ((await cache.match(url(part))) ? 0 : part.bytes)));
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}

/** The bytes that are free for this page, as far as the browser says. */
export async function freeBytes() {
  const { quota = Infinity, usage = 0 } = (await navigator.storage?.estimate?.()) ?? {};
  return quota - usage;
}

/** Removes what is kept of other versions than those with these parts. */
export async function removeOthers(parts) {
  const cache = await caches.open(CACHE);
  const wanted = new Set(parts.map(url));
  for (const request of await cache.keys()) if (!wanted.has(request.url)) await cache.delete(request);
}

/** A whole model as one Blob; `onBytes` gets how much was fetched. */
export async function modelBlob(parts, onBytes) {
  const cache = await caches.open(CACHE);
  await navigator.storage?.persist?.();
  const blobs = [];
  let fetched = 0;
  for (const part of parts) {
    const kept = await cache.match(url(part));
    blobs.push(kept ? await kept.blob() : await fetchPart(cache, part, (bytes) => onBytes(fetched + bytes)));
    if (!kept) fetched += part.bytes;
  }
  return new Blob(blobs);
}

export const removeModels = () => caches.delete(CACHE);

async function fetchPart(cache, part, onBytes) {
  const response = await fetch(url(part), { cache: "no-store" });
  if (!response.ok) throw new Error(`${part.file}: the server says ${response.status}`);
  const pieces = [];
  let bytes = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    pieces.push(value);
    onBytes((bytes += value.length));
  }
  const blob = new Blob(pieces);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
  const hash = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (hash !== part.sha256) throw new Error(`${part.file} arrived damaged`);
  await cache.put(url(part), new Response(blob));
  return blob;
}
