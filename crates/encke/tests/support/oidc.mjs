// An OpenID Connect provider on the loopback address for the tests: oidc-provider, with its own forms for log-in and
// consent.
//
// node oidc.mjs MODULES ACCOUNTS CLIENT SECRET REDIRECT
//   MODULES   folder with the package
//   ACCOUNTS  JSON file: the claims of each account by its name, read anew for each question
//   CLIENT, SECRET, REDIRECT   the one client
// Prints one line of JSON with its address once it can be reached, and ends with its standard input.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [modules, accounts, client, secret, redirect] = process.argv.slice(2);
const main = path.join(modules, 'oidc-provider/lib/index.js');
const { Provider } = await import(pathToFileURL(main).href);
// What it says goes to the standard error.
console.log = console.error;
console.info = console.error;
console.warn = console.error;

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{ client_id: client, client_secret: secret, redirect_uris: [redirect] }],
    pkce: { required: () => true },
    scopes: ['openid', 'profile', 'email', 'groups'],
    claims: {
      openid: ['sub'],
      profile: ['preferred_username', 'name'],
      email: ['email', 'email_verified'],
      groups: ['groups'],
    },
    findAccount: (_, id) => {
      const known = JSON.parse(readFileSync(accounts, 'utf8'))[id];
      return known && { accountId: id, claims: () => ({ sub: id, ...known }) };
    },
  });
  server.on('request', provider.callback());
  process.stdout.write(`${JSON.stringify({ url: issuer })}\n`);
});
process.stdin.on('end', () => process.exit(0)).resume();
