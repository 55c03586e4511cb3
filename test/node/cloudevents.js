// A receiver that reads deliveries with the SDK of CloudEvents, in whichever mode they come, and
// gives the handshake of its web hooks. A line of JSON for each request goes to standard output.
const http = require('http');
const { HTTP } = require('cloudevents');

const server = http.createServer((req, res) => {
  const chunks = [];
  req.on('data', (chunk) => chunks.push(chunk));
  req.on('end', () => {
    const said = { id: req.method };
    try {
      if (req.method === 'OPTIONS') {
        res.setHeader('WebHook-Allowed-Origin', req.headers['webhook-request-origin']);
        res.setHeader('WebHook-Allowed-Rate', process.env.ALLOWED_RATE || '*');
      } else {
        const event = HTTP.toEvent({ headers: req.headers, body: Buffer.concat(chunks).toString() });
        event.validate();
        said.event = req.headers['webhook-request-origin'] || '';
        said.body = event.toJSON();
      }
      res.statusCode = 200;
    } catch (error) {
      said.error = String(error);
      res.statusCode = 400;
    }
    said.status = res.statusCode;
    res.end();
    console.log(JSON.stringify(said));
  });
});
server.listen(Number(process.env.PORT || 0), '127.0.0.1', () => {
  console.log(JSON.stringify({ listening: server.address().port }));
});
