// Signing in: by password, with a second factor, by a portal's message, and the first administrator.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import http from 'node:http';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import {
  ADMIN,
  launchBrowser,
  openPage,
  PASSWORD,
  Server,
  signIn,
  startProvider,
  until,
  watched,
} from './support.mjs';

let server;
let browser;

before(async () => {
  [server, browser] = await Promise.all([Server.start(), launchBrowser()]);
  await server.addUser('ursula');
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

async function withPage(run, options) {
  const page = await openPage(browser, server, options);
  try {
    await watched(page, run);
    assert.deepEqual(page.problems, []);
  } finally {
    await page.context().close();
  }
}

test('a right password shows the home, a wrong one an error', () =>
  withPage(async (page) => {
    await signIn(page, ADMIN, 'wrong');
    await page.getByRole('alert').waitFor();
    assert.match(await page.getByRole('alert').textContent(), /user name or password/i);
    await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('heading', { name: 'Home' }).waitFor();
  }));

test('an end user signs in at the same form and sees the own account', () =>
  withPage(async (page) => {
    await signIn(page, 'ursula');
    await page.getByRole('heading', { name: 'Welcome, ursula' }).waitFor();
    assert.equal(await page.getByRole('link', { name: 'Accounts' }).count(), 0);
  }));

test('the first view is less than 200 KiB compressed', () =>
  withPage(async (page) => {
    const bodies = [];
    page.on('response', (response) => bodies.push(response.body().catch(() => Buffer.alloc(0))));
    await page.goto('/');
    await page.getByLabel('User name').waitFor();
    const sizes = (await Promise.all(bodies)).map((body) => gzipSync(body).length);
    const total = sizes.reduce((sum, size) => sum + size, 0);
    assert.ok(total > 0 && total < 200 * 1024, `${total} bytes`);
  }));

test('signing out revokes the session', () =>
  withPage(async (page) => {
    await signIn(page);
    await page.getByRole('heading', { name: 'Home' }).waitFor();
    const stored = await page.evaluate(() => Object.values(sessionStorage).join());
    assert.equal(await page.evaluate(() => localStorage.getItem('encke-session')), null);
    const { key, username } = JSON.parse(stored.slice(stored.indexOf('{'), stored.lastIndexOf('}') + 1));
    await page.getByRole('button', { name: ADMIN }).click();
    await page.getByRole('menuitem', { name: 'Sign out' }).click();
    await page.getByLabel('User name').waitFor();
    const refused = await until('the revocation', async () => {
      const fields = { Username: username, AuthType: 'SessionKey', SessionKey: key };
      return server.post('/api/v1/admin/list-users', fields).then(
        () => null,
        (error) => error.message,
      );
    });
    assert.match(refused, /403/);
  }));

test('a deep link survives signing in', () =>
  withPage(async (page) => {
    await page.goto('/devices');
    await page.getByLabel('User name').fill(ADMIN);
    await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Devices', exact: true }).waitFor();
    assert.equal(new URL(page.url()).pathname, '/devices');
  }));

test('a second factor is asked for and used', async () => {
  const name = 'second';
  await server.call('/api/v1/admin/admin-user/new', { TargetUser: name, TargetPassword: PASSWORD });
  const own = (fields) => ({ Username: name, AuthType: 'Password', Password: PASSWORD, ...fields });
  const { URL: address } = await server.post('/api/v1/admin/account/regenerate-totp', own({}));
  const secret = new URL(address).searchParams.get('secret');
  const { Security } = await server.post('/api/v1/admin/account/properties', own({}));
  await server.post('/api/v1/admin/account/validate-totp', own({ TOTPCode: totp(secret, -30) }));
  const security = { ...Security, AllowPasswordLogin: false, AllowPasswordAndTOTPLogin: true };
  await server.post('/api/v1/admin/account/set-properties', own({ Security: JSON.stringify(security) }));
  await withPage(async (page) => {
    await signIn(page, name);
    await page.getByLabel('Code').fill('000000');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('alert').waitFor();
    await page.getByLabel('Code').fill(totp(secret));
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('heading', { name: 'Home' }).waitFor();
  });
});

test('another system is set up in the settings and signs an administrator in', async () => {
  const accounts = { 's-1': { preferred_username: 'olga', groups: ['backup'] } };
  const provider = await startProvider(server, 'encke', 'client-secret', accounts);
  await withPage(async (page) => {
    await signIn(page);
    await page.getByRole('heading', { name: 'Home' }).waitFor();
    await page.goto('/settings?tab=login');
    await page.getByRole('button', { name: 'Add OpenID Connect' }).click();
    await page.getByLabel('Text of the button').fill('Sign in with Example');
    await page.getByLabel('Client ID').fill('encke');
    await page.getByLabel('Client secret').fill('client-secret');
    await page.getByLabel('Address of the discovery document').fill(provider);
    await page.getByLabel('Required claims').fill('groups: backup');
    await page.getByLabel('Scopes').first().fill('groups');
    await page.getByLabel('Scopes').first().press('Enter');
    await page.getByLabel('Scopes').first().fill('profile');
    await page.getByLabel('Scopes').first().press('Enter');
    await page.getByRole('button', { name: 'Try it' }).click();
    await page.getByText('Can be reached.').waitFor();
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('Unsaved changes').waitFor({ state: 'detached' });
  });
  const way = async (page) => {
    await page.getByRole('button', { name: 'Sign in with Example' }).click();
    await page.getByPlaceholder('Enter any login').fill('s-1');
    await page.getByPlaceholder('and password').fill('any');
    await page.getByRole('button', { name: 'Sign-in' }).click();
    await page.getByRole('button', { name: 'Continue' }).click();
  };
  await withPage(
    async (page) => {
      const addresses = [];
      page.on('request', (request) => addresses.push(request.url()));
      // A deep link survives the way there and back.
      await page.goto('/jobs');
      await way(page);
      await page.getByRole('heading', { name: 'Job history' }).waitFor();
      await page.getByRole('button', { name: 'olga' }).waitFor();
      const { key } = JSON.parse(await page.evaluate(() => sessionStorage.getItem('encke-session')));
      assert.ok(
        key.length > 32 && !addresses.some((address) => address.includes(key)),
        'no address holds the key',
      );
    },
    { provider },
  );
  // With a second factor of this server.
  const { key } = await withKey(way, provider);
  const own = (fields) => ({ Username: 'olga', AuthType: 'SessionKey', SessionKey: key, ...fields });
  const { URL: address } = await server.post('/api/v1/admin/account/regenerate-totp', own({}));
  const secret = new URL(address).searchParams.get('secret');
  const { Security } = await server.post('/api/v1/admin/account/properties', own({}));
  const security = { ...Security, AllowPasswordLogin: false, AllowPasswordAndTOTPLogin: true };
  await server.post('/api/v1/admin/account/set-properties', own({ Security: JSON.stringify(security) }));
  await withPage(
    async (page) => {
      await page.goto('/');
      await way(page);
      await page.getByText('One more step to sign in as olga').waitFor();
      await page.getByLabel('Code').fill('000000');
      await page.getByRole('button', { name: 'Sign in', exact: true }).click();
      await page.getByRole('alert').waitFor();
      await page.getByLabel('Code').fill(totp(secret));
      await page.getByRole('button', { name: 'Sign in', exact: true }).click();
      await page.getByRole('heading', { name: 'Home' }).waitFor();
    },
    { provider },
  );
  await server.call('/api/v1/admin/external-auth-sources/set', { Sources: {} });
});

/** The session that a way of signing in leads to. */
async function withKey(way, provider) {
  let stored;
  await withPage(
    async (page) => {
      await page.goto('/');
      await way(page);
      await page.getByRole('heading', { name: 'Home' }).waitFor();
      stored = JSON.parse(await page.evaluate(() => sessionStorage.getItem('encke-session')));
    },
    { provider },
  );
  return stored;
}

test('an empty server asks for its first administrator', async () => {
  const empty = await Server.start({ empty: true });
  try {
    const page = await openPage(browser, empty);
    await page.goto('/');
    await page.getByLabel('User name').fill('root');
    await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
    await page.getByLabel('Password again').fill(PASSWORD);
    await page.getByRole('button', { name: 'Make administrator' }).click();
    await page.getByRole('heading', { name: 'Home' }).waitFor();
    await page.getByRole('link', { name: 'Accounts', exact: true }).click();
    await page.getByText('No accounts yet').waitFor();
    assert.deepEqual(page.problems, []);
    await page.context().close();
  } finally {
    await empty.stop();
  }
});

// The portal: another origin, which opens the console as a window or a frame and answers its first message once.
function portal(message, { framed, to = server }) {
  const open = framed
    ? "const f = document.createElement('iframe'); f.width = 1200; f.height = 800; f.src = target; document.body.append(f);"
    : 'window.open(target);';
  const page = `<!doctype html><title>Portal</title><body><script>
    const target = ${JSON.stringify(`${to.url}/`)};
    window.messages = [];
    addEventListener('message', (e) => {
      window.messages.push(e.data);
      if (window.messages.length === 1) e.source.postMessage(${JSON.stringify(message)}, '*');
    });
    ${open}
  </script>`;
  const portalServer = http.createServer((_, response) => {
    response.setHeader('Content-Type', 'text/html');
    response.end(page);
  });
  return new Promise((resolve) => {
    portalServer.listen(0, '127.0.0.1', () => {
      resolve({
        url: `http://127.0.0.1:${portalServer.address().port}/`,
        close: () => portalServer.close(),
      });
    });
  });
}

async function throughPortal(message, options, check) {
  const { url, close } = await portal(message, options);
  const context = await browser.newContext();
  try {
    const page = await context.newPage();
    let loads = 0;
    context.on('request', (request) => {
      if (request.isNavigationRequest() && request.url().startsWith((options.to ?? server).url)) loads += 1;
    });
    let console_;
    if (options.framed) {
      await page.goto(url);
      console_ = page.frameLocator('iframe');
    } else {
      [console_] = await Promise.all([context.waitForEvent('page'), page.goto(url)]);
    }
    await check(console_);
    const messages = await page.evaluate(() => window.messages);
    assert.deepEqual(messages[0], { msg: 'app_loaded' });
    assert.equal(loads, 1, 'the console was loaded once');
  } finally {
    await context.close();
    close();
  }
}

test('a portal signs an administrator in without a reload', async () => {
  const message = { msg: 'session_login', username: ADMIN, sessionkey: await server.adminSession() };
  await throughPortal(message, { framed: false }, async (page) => {
    await page.getByRole('heading', { name: 'Home' }).waitFor();
  });
});

test('a portal signs an end user in, in a frame', async () => {
  const message = {
    msg: 'user_session_login',
    username: 'ursula',
    sessionkey: await server.sessionAs('ursula'),
  };
  await throughPortal(message, { framed: true }, async (page) => {
    await page.getByRole('heading', { name: 'Welcome, ursula' }).waitFor();
  });
});

test("a portal's wrong key leads to the sign-in form with an error", async () => {
  const message = { msg: 'session_login', username: ADMIN, sessionkey: '0'.repeat(64) };
  await throughPortal(message, { framed: false }, async (page) => {
    await page.getByRole('alert').waitFor();
    await page.getByLabel('User name').waitFor();
    assert.equal(await page.getByRole('heading', { name: 'Home' }).count(), 0);
  });
});

test('a server that names its portals is signed in to and framed by those alone', async () => {
  const strict = await Server.start({ options: ['--portal', 'https://portal.example.com'] });
  try {
    const message = { msg: 'session_login', username: ADMIN, sessionkey: await strict.adminSession() };
    const { Origins } = await strict.post('/api/encke/v1/console/portals', {});
    assert.deepEqual(Origins, ['https://portal.example.com']);
    const asked = () => performance.getEntriesByType('resource').some((r) => /portals$/.test(r.name));
    await throughPortal(message, { framed: false, to: strict }, async (page) => {
      await until('the question whether the portal is trusted', () => page.evaluate(asked));
      await page.getByLabel('User name').waitFor();
      assert.equal(await page.getByRole('heading', { name: 'Home' }).count(), 0);
    });
    const { headers } = await fetch(strict.url);
    assert.match(
      headers.get('content-security-policy'),
      /; frame-ancestors 'self' https:\/\/portal\.example\.com$/,
    );
  } finally {
    await strict.stop();
  }
});

/** RFC 6238 with the usual parameters. */
function totp(secret, shift = 0) {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  const bits = [...secret.replace(/=+$/, '')]
    .map((c) => alphabet.indexOf(c).toString(2).padStart(5, '0'))
    .join('');
  const key = Buffer.from(bits.match(/.{8}/g).map((b) => Number.parseInt(b, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor((Date.now() / 1000 + shift) / 30)));
  const mac = createHmac('sha1', key).update(counter).digest();
  const code = mac.readUInt32BE((mac.at(-1) ?? 0) & 15) & 0x7fffffff;
  return String(code % 1_000_000).padStart(6, '0');
}
