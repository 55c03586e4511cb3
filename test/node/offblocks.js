// A client and receiver of OffBlocks, written from its page: it uploads a key, subscribes its
// callback, fetches the verification key, and verifies what arrives with that key alone and the
// library http-message-signatures. It prints a line of JSON for each verdict on standard output,
// which the tests read.
const http = require('node:http');
const crypto = require('node:crypto');
const { httpbis, createSigner, createVerifier } = require('http-message-signatures');

const api = `${process.env.API}/compat/offblocks`;
const types = process.env.TYPES ? process.env.TYPES.split(',') : undefined;
const answers = (process.env.ANSWERS || '').split(',').filter(Boolean).map(Number);

// The receiver's clock may be ahead. Requests are signed by the real one.
const realNow = Date.now;
Date.now = () => realNow() + Number(process.env.CLOCK_AHEAD || 0) * 1000;

const digest = (body) => `sha-256=:${crypto.createHash('sha256').update(body).digest('base64')}:`;

const { privateKey, publicKey } = crypto.generateKeyPairSync('ec', { namedCurve: 'P-384' });
let signer = createSigner(privateKey, 'ecdsa-p384-sha384', 'first');

async function call(method, path, body) {
  const headers = { authorization: `Bearer ${process.env.BEARER}` };
  const fields = ['@method', '@target-uri'];
  if (method !== 'GET') {
    headers['idempotency-key'] = crypto.randomUUID();
    fields.push('idempotency-key');
  }
  if (body !== undefined) {
    headers['content-type'] = 'application/json';
    headers['content-digest'] = digest(body);
    fields.push('content-type', 'content-digest');
  }
  const url = `${api}${path}`;
  const signed = await httpbis.signMessage({ key: signer, name: 'client', fields }, { method, url, headers });
  const res = await fetch(url, { method, headers: signed.headers, body });
  if (!res.ok) throw new Error(`${method} ${path}: ${res.status} ${await res.text()}`);
  return res.json();
}

const seen = new Set();

// verify follows the page's steps: headers, signature, digest, times; then duplicates.
async function verify(req, body, url, key) {
  for (const name of ['signature', 'signature-input', 'content-digest']) {
    if (!req.headers[name]) throw new Error(`no ${name}`);
  }
  const verified = await httpbis.verifyMessage({
    keyLookup: async (params) => (params.keyid === key.id
      ? { id: key.id, algs: ['ecdsa-p384-sha384'], verify: createVerifier(key.publicKey, 'ecdsa-p384-sha384') }
      : null),
    requiredFields: ['@method', '@target-uri', 'content-type', 'content-digest'],
    requiredParams: ['created', 'expires', 'keyid'],
    maxAge: 300,
  }, { method: req.method, url, headers: req.headers });
  if (verified !== true) throw new Error('no signature of ours');
  if (req.headers['content-digest'] !== digest(body)) throw new Error('digest');
  const event = JSON.parse(body);
  const repeat = seen.has(event.eventId);
  seen.add(event.eventId);
  return { event: repeat ? 'duplicate' : event.webhookType, id: event.eventId };
}

async function main() {
  let key;
  let base;
  const server = http.createServer((req, res) => {
    const chunks = [];
    req.on('data', (chunk) => chunks.push(chunk));
    req.on('end', async () => {
      const body = Buffer.concat(chunks);
      const verdict = { status: 200 };
      try {
        Object.assign(verdict, await verify(req, body, base + req.url, key));
        verdict.status = answers.shift() || 200;
      } catch (err) {
        verdict.status = 401;
        verdict.error = err.message;
      }
      res.writeHead(verdict.status).end();
      verdict.body = { method: req.method, url: base + req.url, headers: req.headers, body: body.toString('base64') };
      console.log(JSON.stringify(verdict));
    });
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  base = `http://127.0.0.1:${server.address().port}`;
  const pem = publicKey.export({ type: 'spki', format: 'pem' });
  const uploaded = await call('PUT', '/auth/signing', JSON.stringify({ publicKey: Buffer.from(pem).toString('base64') }));
  signer = createSigner(privateKey, 'ecdsa-p384-sha384', uploaded.id);
  const { id, publicKey: spki } = await call('GET', '/v1/webhooks/key');
  key = { id, publicKey: crypto.createPublicKey({ key: Buffer.from(spki, 'base64'), format: 'der', type: 'spki' }) };
  const made = await call('PUT', '/v1/webhooks', JSON.stringify({ callbackUrl: `${base}/callback?a=b%20c`, types }));
  const read = await call('GET', `/v1/webhooks/${made.id}`);
  if (JSON.stringify(read) !== JSON.stringify(made)) throw new Error('what was read is not what was made');
  console.log(JSON.stringify({ listening: server.address().port, id: made.id }));
}

main().catch((err) => {
  console.error(err);
  process.exit(1);
});
