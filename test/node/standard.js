// A receiver that verifies with the reference library of Standard Webhooks and prints a line of
// JSON for each verdict on standard output, which the tests read.
const http = require('node:http');
const { Webhook } = require('standardwebhooks');

const secret = process.env.WEBHOOK_SECRET;
const server = http.createServer((req, res) => {
  const chunks = [];
  req.on('data', (chunk) => chunks.push(chunk));
  req.on('end', () => {
    const body = Buffer.concat(chunks).toString('utf8');
    let status = 200;
    let error;
    try {
      new Webhook(secret).verify(body, req.headers);
    } catch (err) {
      status = 401;
      error = err.message;
    }
    res.writeHead(status).end();
    console.log(JSON.stringify({ status, error, id: req.headers['webhook-id'], body }));
  });
});
server.listen(Number(process.env.PORT || 0), '127.0.0.1', () => {
  console.log(JSON.stringify({ listening: server.address().port }));
});
