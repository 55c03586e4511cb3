// A receiver as JewelMusic's documentation prints it: verifyWebhookSignature and the handler are
// the page's own, word for word. Around them stand only a server and a line of JSON for each
// verdict on standard output, which the tests read.
const express = require('express');
const crypto = require('crypto');

const WEBHOOK_SECRET = process.env.WEBHOOK_SECRET;
const app = express();
app.use(express.json());
app.use((req, res, next) => {
  res.on('finish', () => console.log(JSON.stringify({
    status: res.statusCode,
    event: req.headers['x-jewelmusic-event'],
    timestamp: req.headers['x-jewelmusic-timestamp'],
    body: req.body,
  })));
  next();
});

function verifyWebhookSignature(payload, signature, secret) {
  const expectedSignature = crypto
    .createHmac('sha256', secret)
    .update(payload)
    .digest('hex');
  
  return crypto.timingSafeEqual(
    Buffer.from(signature),
    Buffer.from('sha256=' + expectedSignature)
  );
}

// In your webhook handler
app.post('/webhooks/jewelmusic', (req, res) => {
  const signature = req.headers['x-jewelmusic-signature'];
  const payload = JSON.stringify(req.body);
  
  if (!verifyWebhookSignature(payload, signature, WEBHOOK_SECRET)) {
    return res.status(401).send('Invalid signature');
  }
  
  // Process the webhook event
  const event = req.body;
  console.log('Received event:', event.type);
  
  res.status(200).send('OK');
});

const server = app.listen(Number(process.env.PORT || 0), '127.0.0.1', () => {
  console.log(JSON.stringify({ listening: server.address().port }));
});
