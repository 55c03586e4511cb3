// Reads a JSON array of documents on standard input and holds each to JSON:API 1.0. Source 004 puts
// the id among the attributes too, which JSON:API does not allow: that member alone is left out.
const { Validator } = require('jsonapi-validator');

let text = '';
process.stdin.on('data', (chunk) => { text += chunk; });
process.stdin.on('end', () => {
  const validator = new Validator();
  let failed = 0;
  for (const document of JSON.parse(text)) {
    const copy = structuredClone(document);
    for (const resource of [copy.data].flat()) {
      if (resource && resource.attributes) delete resource.attributes.id;
    }
    try {
      validator.validate(copy);
    } catch (err) {
      failed += 1;
      console.error(JSON.stringify(document), JSON.stringify(err.errors || err.message));
    }
  }
  process.exit(failed === 0 ? 0 : 1);
});
