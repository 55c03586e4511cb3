// Verify webhooks with nothing but Node's own modules (Node 18 or newer). Copy the functions above
// the line; below it is a command that tries them on recorded requests.
//
// The body must be the bytes that came: in Express, express.raw({ type: '*/*' }). Headers are an
// object whose names are in lower case, such as req.headers. Each function returns, or throws what
// is wrong: answer 401 then, and keep the reason to yourself.
import { createHash, createHmac, createPublicKey, timingSafeEqual, verify } from 'node:crypto';

const TOLERANCE = 300; // seconds, either way
const HASHES = { 'P-256': 'sha256', 'P-384': 'sha384' };
const ALGORITHMS = { 'P-256': 'ecdsa-p256-sha256', 'P-384': 'ecdsa-p384-sha384', Ed25519: 'ed25519' };

const now = () => Math.floor(Date.now() / 1000);
const same = (a, b) => a.length === b.length && timingSafeEqual(a, b);
const hmac = (key, ...parts) => parts.reduce((mac, part) => mac.update(part), createHmac('sha256', key)).digest();

/** Standard Webhooks. Keys are those in force: "whsec_..." (v1) or "whpk_..." (v1a). */
export function verifyStandard(headers, body, keys, clock = now()) {
  const { 'webhook-id': id, 'webhook-timestamp': stamp, 'webhook-signature': list } = headers;
  if (!id || !stamp || !list) throw new Error('a header is missing');
  if (!/^\d{1,15}$/.test(stamp) || Math.abs(clock - Number(stamp)) > TOLERANCE) throw new Error('the time is not now');
  const content = Buffer.concat([Buffer.from(`${id}.${stamp}.`), body]);
  for (const entry of list.split(' ')) {
    const [version, text = ''] = entry.split(',');
    const signature = Buffer.from(text, 'base64');
    for (const key of keys) {
      const raw = Buffer.from(key.replace(/^wh(sec|pk)_/, ''), 'base64');
      if (version === 'v1' && key.startsWith('whsec_') && same(signature, hmac(raw, content))) return { id, time: Number(stamp) };
      if (version === 'v1a' && key.startsWith('whpk_') && verify(null, content, ed25519(raw), signature)) return { id, time: Number(stamp) };
    }
  }
  throw new Error('no signature matches');
}

const ed25519 = (raw) => createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: raw.toString('base64url') }, format: 'jwk' });

/** JewelMusic. Secrets are the texts in force. The signature does not cover the time. */
export function verifyJewelMusic(headers, body, secrets) {
  const given = Buffer.from(headers['x-jewelmusic-signature'] ?? '');
  for (const secret of secrets) {
    if (same(given, Buffer.from(`sha256=${hmac(secret, body).toString('hex')}`))) return;
  }
  throw new Error('no signature matches');
}

/**
 * An HTTP message signature (RFC 9421). The URL is the one that is registered, with the query that
 * came; keys are a Map of keyid to public key (see keyOf).
 */
export function verifyMessage(method, url, headers, body, keys, clock = now()) {
  const inputs = (headers['signature-input'] ?? '').matchAll(
    /([a-z*][a-z0-9_.*-]*)=(\(("[^"\\]+"(?: "[^"\\]+")*)?\)((?:;[a-z*][a-z0-9_.*-]*=(?:"(?:[^"\\]|\\.)*"|-?\d+))*))(?=\s*,|$)/g);
  for (const [, label, params, components = '', rest] of inputs) {
    const names = components.split(' ').map((name) => name.slice(1, -1));
    const p = Object.fromEntries([...rest.matchAll(/;([^=]+)=(?:"((?:[^"\\]|\\.)*)"|(-?\d+))/g)].map(([, k, s, n]) => [k, s ?? Number(n)]));
    const signature = new RegExp(`(?:^|,)\\s*${label.replace(/[.*]/g, '\\$&')}=:([A-Za-z0-9+/=]*):`).exec(headers.signature ?? '');
    const key = keys.get(p.keyid);
    if (!signature || !key || p.tag !== 'webhook') continue; // of somebody else
    const { crv } = key.export({ format: 'jwk' });
    if (p.alg !== undefined && p.alg !== ALGORITHMS[crv]) throw new Error('the algorithm is not the key\'s');
    if (!(p.created <= clock + 60 && p.created >= clock - TOLERANCE && p.expires > clock)) throw new Error('the time is not now');
    const covers = (...list) => list.every((name) => names.includes(name));
    if (!covers('@method', '@target-uri') && !covers('@method', '@authority', '@path', '@query')) throw new Error('the URL is not covered');
    if (body.length > 0 && !covers('content-digest')) throw new Error('the body is not covered');
    if (new Set(names).size !== names.length) throw new Error('a component is there twice');
    const lines = names.map((name) => `"${name}": ${component(name, method, url, headers)}\n`);
    const base = Buffer.from(`${lines.join('')}"@signature-params": ${params}`);
    const form = crv in HASHES ? { key, dsaEncoding: 'ieee-p1363' } : key;
    if (!verify(HASHES[crv] ?? null, base, form, Buffer.from(signature[1], 'base64'))) throw new Error('no signature matches');
    const digest = `sha-256=:${createHash('sha256').update(body).digest('base64')}:`;
    if (covers('content-digest') && headers['content-digest'] !== digest) throw new Error('the body is another');
    return { id: covers('webhook-id') ? headers['webhook-id'] : undefined, time: p.created };
  }
  throw new Error('no signature by a known key');
}

function component(name, method, url, headers) {
  const { host, pathname, search } = new URL(url);
  const derived = { '@method': method, '@target-uri': url, '@authority': host, '@path': pathname, '@query': search || '?' };
  const value = name.startsWith('@') ? derived[name] : headers[name];
  if (value === undefined) throw new Error(`${name} is missing`);
  return value.trim();
}

/** The public key of the base64 of its SubjectPublicKeyInfo, as the signing-key API gives it. */
export const keyOf = (base64) => createPublicKey({ key: Buffer.from(base64, 'base64'), format: 'der', type: 'spki' });

// ---------------------------------------------------------------------------------------------
// node verify.mjs standard|jewelmusic|message FILE...   Each file is a request as it was recorded:
// request line, headers, an empty line, body. WEBHOOK_KEYS holds the secrets or keys, separated by
// spaces (for message: keyid=base64 each), WEBHOOK_ORIGIN the beginning of the registered URL, and
// WEBHOOK_NOW the time to judge by, for recordings.
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [form, ...files] = process.argv.slice(2);
  const keys = (process.env.WEBHOOK_KEYS ?? '').split(' ');
  const clock = Number(process.env.WEBHOOK_NOW ?? now());
  for (const file of files) {
    const raw = readFileSync(file);
    const end = raw.indexOf('\r\n\r\n');
    const [first, ...lines] = raw.subarray(0, end).toString('latin1').split('\r\n');
    const body = raw.subarray(end + 4);
    const headers = {};
    for (const line of lines) {
      const [, name, value] = /^([^:]+):\s*(.*?)\s*$/.exec(line);
      const key = name.toLowerCase();
      headers[key] = key in headers ? `${headers[key]}, ${value}` : value;
    }
    const [method, path] = first.split(' ');
    try {
      if (form === 'standard') verifyStandard(headers, body, keys, clock);
      else if (form === 'jewelmusic') verifyJewelMusic(headers, body, keys);
      else {
        const map = new Map(keys.map((k) => [k.slice(0, k.indexOf('=')), keyOf(k.slice(k.indexOf('=') + 1))]));
        verifyMessage(method, (process.env.WEBHOOK_ORIGIN ?? '') + path, headers, body, map, clock);
      }
      console.log(`${file}: genuine`);
    } catch (err) {
      console.log(`${file}: refused: ${err.message}`);
      process.exitCode = 1;
    }
  }
}
