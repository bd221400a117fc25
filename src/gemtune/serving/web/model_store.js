// The model on the visitor's device: fetched once in parts, each checked against its hash, kept for the next visit.

const CACHE = "gemtune-model";

const url = (part) => new URL(part.file, import.meta.url).href;

/** Whether every part is here. */
export async function isStored(parts) {
  const cache = await caches.open(CACHE);
  const found = await Promise.all(parts.map((part) => cache.match(url(part))));
  return found.every(Boolean);
}

/** The bytes that are free for this page, as far as the browser says. */
export async function freeBytes() {
  const { quota = Infinity, usage = 0 } = (await navigator.storage?.estimate?.()) ?? {};
  return quota - usage;
}

/** The whole model as one Blob; `onBytes` gets how much is there. Parts of another version are removed. */
export async function modelBlob(parts, onBytes) {
  const cache = await caches.open(CACHE);
  const wanted = new Set(parts.map(url));
  for (const request of await cache.keys()) if (!wanted.has(request.url)) await cache.delete(request);
  await navigator.storage?.persist?.();
  const blobs = [];
  let before = 0;
  for (const part of parts) {
    const kept = await cache.match(url(part));
    blobs.push(kept ? await kept.blob() : await fetchPart(cache, part, (bytes) => onBytes(before + bytes)));
    before += part.bytes;
    onBytes(before);
  }
  return new Blob(blobs);
}

export const removeModel = () => caches.delete(CACHE);

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
