// A receiver that verifies with the library that a system gives its own receivers, named by SCHEME,
// and prints a line of JSON for each verdict on standard output, which the tests read. Slack and
// Shopify are verified as their pages print it, since their libraries are whole frameworks.
const http = require('node:http');
const crypto = require('node:crypto');
const querystring = require('node:querystring');

const secret = process.env.WEBHOOK_SECRET;
const equal = (a, b) => a.length === b.length && crypto.timingSafeEqual(a, b);

// Each throws, or says whether the request is genuine. The body is a Buffer; url is as registered.
const schemes = {
  svix: (req, body) => {
    const { Webhook } = require('svix');
    // Without those of Standard Webhooks, to which the library falls back.
    const headers = Object.fromEntries(Object.entries(req.headers).filter(([name]) => !name.startsWith('webhook-')));
    new Webhook(secret).verify(body.toString(), headers);
    return true;
  },
  stripe: (req, body) => {
    const Stripe = require('stripe');
    new Stripe('sk_test_unused').webhooks.constructEvent(body, req.headers['stripe-signature'], secret);
    return true;
  },
  github: async (req, body) => {
    const { verify } = await import('@octokit/webhooks-methods');
    if (!req.headers['x-github-event'] || !req.headers['x-github-delivery']) throw new Error('a header is missing');
    return verify(secret, body.toString(), req.headers['x-hub-signature-256']);
  },
  'github-sha1': (req, body) => {
    // docs.github.com, before 2020.
    const want = `sha1=${crypto.createHmac('sha1', secret).update(body).digest('hex')}`;
    return equal(Buffer.from(want), Buffer.from(req.headers['x-hub-signature']));
  },
  // shopify.dev/docs/apps/build/webhooks/subscribe/https
  shopify: (req, body) => {
    if (!req.headers['x-shopify-topic'] || !req.headers['x-shopify-webhook-id']) throw new Error('a header is missing');
    const calculatedHmacDigest = crypto.createHmac('sha256', secret).update(body).digest('base64');
    return equal(Buffer.from(calculatedHmacDigest, 'base64'), Buffer.from(req.headers['x-shopify-hmac-sha256'], 'base64'));
  },
  // docs.slack.dev/authentication/verifying-requests-from-slack
  slack: (req, body) => {
    const timestamp = req.headers['x-slack-request-timestamp'];
    if (Math.abs(Date.now() / 1000 - timestamp) > 60 * 5) throw new Error('too old');
    const mine = `v0=${crypto.createHmac('sha256', secret).update(`v0:${timestamp}:${body}`).digest('hex')}`;
    return equal(Buffer.from(mine), Buffer.from(req.headers['x-slack-signature']));
  },
  square: (req, body, url) => {
    const { WebhooksHelper } = require('square');
    return WebhooksHelper.verifySignature({
      requestBody: body.toString(), signatureHeader: req.headers['x-square-hmacsha256-signature'], signatureKey: secret, notificationUrl: url,
    });
  },
  twilio: (req, body, url) => {
    const { validateRequest, validateRequestWithBody } = require('twilio');
    const signature = req.headers['x-twilio-signature'];
    if (req.headers['content-type'] === 'application/x-www-form-urlencoded') {
      return validateRequest(secret, signature, url, { ...querystring.parse(body.toString()) });
    }
    return validateRequestWithBody(secret, signature, url, body.toString());
  },
};

const verify = schemes[process.env.SCHEME];
const server = http.createServer((req, res) => {
  const chunks = [];
  req.on('data', (chunk) => chunks.push(chunk));
  req.on('end', async () => {
    const body = Buffer.concat(chunks);
    let status = 200;
    let error;
    try {
      if (!await verify(req, body, `http://127.0.0.1:${server.address().port}${req.url}`)) {
        status = 401;
        error = 'the signature does not match';
      }
    } catch (err) {
      status = 401;
      error = err.message;
    }
    res.writeHead(status).end();
    console.log(JSON.stringify({ status, error, id: req.headers['webhook-id'], body: body.toString() }));
  });
});
server.listen(Number(process.env.PORT || 0), '127.0.0.1', () => {
  console.log(JSON.stringify({ listening: server.address().port }));
});
