// A real server, real devices and a real browser for the tests: own ports, own folders, gone at the end.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { after, before } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const here = path.dirname(fileURLToPath(import.meta.url));
const PROGRAM = path.resolve(process.env.ENCKE_BIN ?? path.join(here, '../../target/release/encke'));
/** How long anything may take before a test gives up, in milliseconds. */
export const PATIENCE = 15_000;

export const ADMIN = 'admin';
export const PASSWORD = 'correct horse battery';

/** Starts a program whose output up to a line decides that it is ready. */
async function launch(args, ready, env = {}) {
  const child = spawn(PROGRAM, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  let log = '';
  child.stderr.on('data', (chunk) => {
    log += chunk;
  });
  const lines = readline.createInterface({ input: child.stdout });
  const found = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`encke ${args.join(' ')} ended with ${code}\n${log}`)));
    if (!ready) resolve(null);
    lines.on('line', (line) => {
      const match = ready?.exec(line);
      if (match) resolve(match[1]);
    });
  });
  return { child, found, log: () => log };
}

async function end(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  await once(child, 'exit');
}

/** Asks again until the answer is one. */
export async function until(what, ask) {
  const limit = Date.now() + PATIENCE;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > limit) throw new Error(`gave up waiting for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/**
 * A real OpenID Connect provider with one client, which sends browsers back to the server. `accounts` holds the claims of
 * each account by its name; any password is right there.
 */
export async function startProvider(server, client, secret, accounts) {
  const root = path.join(here, '../..');
  const installed = spawn(path.join(root, 'scripts/test-services.sh'), {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let programs = '';
  for await (const chunk of installed.stdout) programs += chunk;
  const file = path.join(server.folder, 'accounts.json');
  await writeFile(file, JSON.stringify(accounts));
  const child = spawn(
    process.execPath,
    [
      path.join(root, 'crates/encke/tests/support/oidc.mjs'),
      path.join(programs.trim(), '../node_modules'),
      file,
      client,
      secret,
      `${server.url}/external-login/callback`,
    ],
    { stdio: ['pipe', 'pipe', 'ignore'] },
  );
  server.children.push(child);
  const [line] = await once(readline.createInterface({ input: child.stdout }), 'line');
  return JSON.parse(line).url;
}

/** A server with an administrator, unless it shall be empty. */
export class Server {
  static async start({ empty = false, options = [] } = {}) {
    const folder = await mkdtemp(path.join(tmpdir(), 'encke-web-'));
    const args = ['serve', '--listen', '127.0.0.1:0', '--data-dir', path.join(folder, 'server'), ...options];
    const { child, found, log } = await launch(args, /^Encke listens at (\S+?)\/?$/);
    const server = new Server();
    Object.assign(server, { folder, child, url: found, log, children: [] });
    if (!empty) {
      await server.post('/api/v1/admin/add-first-admin-user', {
        TargetUser: ADMIN,
        TargetPassword: PASSWORD,
      });
    }
    return server;
  }

  async stop() {
    for (const child of [...this.children, this.child]) await end(child);
    await rm(this.folder, { recursive: true, force: true });
  }

  /** Calls an endpoint with these fields and no others. An error envelope is an error. */
  async post(path_, fields) {
    const response = await fetch(this.url + path_, { method: 'POST', body: new URLSearchParams(fields) });
    const text = await response.text();
    const body = JSON.parse(text);
    if (body.Status >= 400 && body.Message) throw new Error(`${path_}: ${text}`);
    return body;
  }

  /** Calls an endpoint as the administrator. */
  call(path_, fields = {}) {
    const all = { Username: ADMIN, AuthType: 'Password', Password: PASSWORD };
    for (const [name, value] of Object.entries(fields)) {
      all[name] = typeof value === 'object' ? JSON.stringify(value) : String(value);
    }
    return this.post(path_, all);
  }

  addUser(name) {
    return this.call('/api/v1/admin/add-user', { TargetUser: name, TargetPassword: PASSWORD });
  }

  async sessionAs(name) {
    const answer = await this.call('/api/v1/admin/account/session-start-as-user', { TargetUser: name });
    return answer.SessionKey;
  }

  async adminSession() {
    return (await this.call('/api/v1/admin/account/session-start')).SessionKey;
  }

  async jobs() {
    return this.call('/api/v1/admin/get-jobs-recent');
  }

  /** Edits an account's profile. */
  async edit(name, change) {
    const answer = await this.call('/api/v1/admin/get-user-profile-and-hash', { TargetUser: name });
    change(answer.Profile);
    return this.call('/api/v1/admin/set-user-profile-hash', {
      TargetUser: name,
      ProfileData: answer.Profile,
      RequireHash: answer.ProfileHash,
    });
  }

  /**
   * Makes an account with a device on line, a vault in this server's Storage Role, an item of a folder with files
   * and a rule for them. `files` maps paths inside the folder to content.
   */
  async addDevice(user, { device, files, vault = `${user}-vault`, item = `${device}-item` }) {
    const folder = path.join(this.folder, 'devices', device);
    const source = path.join(folder, 'files');
    for (const [name, content] of Object.entries(files)) {
      await mkdir(path.dirname(path.join(source, name)), { recursive: true });
      await writeFile(path.join(source, name), content);
    }
    const data = ['agent', '--data-dir', path.join(folder, 'agent')];
    const register = [...data, 'register', '--server', this.url, '--user', user];
    const env = { ENCKE_PASSWORD: PASSWORD };
    await launch([...register, '--device-id', device, '--device-name', device], /(registered) as/, env);
    const bucket = await this.call('/api/v1/admin/storage/register-bucket');
    await this.edit(user, (profile) => {
      profile.Destinations[vault] ??= {
        Description: 'Main vault',
        DestinationType: 1003,
        CometServer: this.url,
        CometBucket: bucket.NewBucketID,
        CometBucketKey: bucket.NewBucketKey,
        DefaultRetention: { Mode: 801, Ranges: [] },
        AssociatedDevices: [device],
      };
      profile.Sources[item] = {
        Engine: 'engine1/file',
        Description: `Documents of ${device}`,
        OwnerDevice: device,
        EngineProps: { INCLUDE1: source },
      };
      profile.BackupRules[`${item}-rule`] = { Description: 'Nightly', Source: item, Destination: vault };
    });
    const agent = await launch([...data, 'run'], null);
    this.children.push(agent.child);
    const connection = await until(`device ${device}`, async () => {
      const live = await this.call('/api/v1/admin/dispatcher/list-active', { UserNameFilter: user });
      return Object.keys(live).find((id) => live[id].DeviceID === device);
    });
    return { source, folder, vault, item, rule: `${item}-rule`, connection };
  }

  /** Registers a device as the console's command says, and starts it. */
  async deviceByToken(token, device) {
    const folder = path.join(this.folder, 'devices', device);
    const data = ['agent', '--data-dir', path.join(folder, 'agent')];
    const register = [...data, 'register', '--server', this.url, '--token', token];
    await launch([...register, '--device-id', device, '--device-name', device], /(registered) as/);
    const agent = await launch([...data, 'run'], null);
    this.children.push(agent.child);
    return folder;
  }

  /** Lets a device wait in the lobby. */
  async deviceInLobby(device) {
    const data = ['agent', '--data-dir', path.join(this.folder, 'devices', device, 'agent')];
    const agent = await launch(
      [...data, 'lobby', '--server', this.url, '--device-id', device, '--device-name', device],
      null,
    );
    this.children.push(agent.child);
  }

  /** Runs a rule to its end and answers the job. */
  async backup({ connection, rule }) {
    const fields = { TargetID: connection, BackupRule: rule };
    const { JobID } = await this.call('/api/v1/admin/dispatcher/run-backup', fields);
    return until('the backup', async () => {
      const job = await this.call('/api/v1/admin/get-job-properties', { JobID });
      return job.Status >= 6000 && job.Status < 7000 ? null : job;
    });
  }
}

const FLAGS =
  '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking ' +
  '--disable-component-update --disable-sync';

/** The distribution's browser. */
export function launchBrowser() {
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  // Pages out of a folder count as public ones to the browser, which may not talk to this machine.
  const more = process.env.WEB_DIST ? ['--disable-features=LocalNetworkAccessChecks'] : [];
  return chromium.launch({ executablePath, headless: true, args: [...FLAGS.split(' '), ...more] });
}

/**
 * With `WEB_DIST` the pages come from that folder instead of out of the program, so that a change can be tried without
 * building the program anew. The headers stay the program's.
 */
async function fromFolder(context, server, folder) {
  const { headers } = await fetch(`http://127.0.0.1:${new URL(server.url).port}/`);
  const policy = headers.get('content-security-policy');
  const types = { html: 'text/html', js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml' };
  await context.route(
    (url) => url.origin === server.url && !/^\/(api|gen|docs|external-login)\b/.test(url.pathname),
    async (route) => {
      const { pathname } = new URL(route.request().url());
      const found = pathname.includes('.') && existsSync(path.join(folder, pathname));
      const file = path.join(folder, found ? pathname : 'index.html');
      await route.fulfill({
        body: await readFile(file),
        contentType: types[path.extname(file).slice(1)] ?? 'application/octet-stream',
        headers: { 'content-security-policy': policy },
      });
    },
  );
}

/** The addresses of every published call, and of the two that are no form calls. */
const published = new Set([
  ...Object.keys(JSON.parse(readFileSync(path.join(here, '../../docs/api/openapi.json'), 'utf8')).paths),
  '/api/v1/events/stream',
  '/gen/logo.img',
]);

/** A page of its own context, which fails on anything that a page of ours must not do. */
export async function openPage(browser, server, { provider, ...options } = {}) {
  const context = await browser.newContext({ baseURL: server.url, ...options });
  if (process.env.WEB_DIST) await fromFolder(context, server, path.resolve(process.env.WEB_DIST));
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.problems = [];
  page.on('pageerror', (error) => page.problems.push(`error: ${error.message}`));
  page.on('console', (message) => {
    // A missing second factor answers with a status of its own, which the browser notes.
    const expected = message.text().includes('449');
    const elsewhere = provider && !message.location().url.startsWith(server.url);
    if (message.type() === 'error' && !expected && !elsewhere)
      page.problems.push(`console: ${message.text()}`);
  });
  page.on('request', (request) => {
    const { origin, protocol, pathname } = new URL(request.url());
    // Whatever the pages of a log-in provider do is theirs.
    const from = request.isNavigationRequest() ? origin : new URL(request.frame().url()).origin;
    if (provider && from === provider) return;
    if (protocol.startsWith('http') && origin !== server.url) page.problems.push(`request to ${origin}`);
    const unknown = /^\/(api|gen)\//.test(pathname) && !published.has(pathname);
    if (unknown) page.problems.push(`call of ${pathname}, which is not published`);
  });
  return page;
}

/** Does something on a page; where that fails, the error says what the page showed. */
export async function watched(page, run) {
  try {
    await run(page);
  } catch (error) {
    const shown = await page
      .locator('body')
      .innerText()
      .catch(() => '');
    error.message += `\nat ${page.url()}, which shows:\n${shown}\n${page.problems.join('\n')}`;
    throw error;
  }
}

/** A server and a browser for the tests of a file, which `prepare` gets before the first one. */
export function stage(prepare) {
  let server;
  let browser;
  before(async () => {
    [server, browser] = await Promise.all([Server.start(), launchBrowser()]);
    await prepare(server, browser);
  });
  after(async () => {
    await browser?.close();
    await server?.stop();
  });
}

/** Lets somebody do something in a browser; nothing may have gone wrong at the end but for what is `expected`. */
export async function actAs(browser, server, user, run, { expected = /^$/, ...options } = {}) {
  const page = await openPage(browser, server, options);
  try {
    await watched(page, async () => {
      await signIn(page, user);
      await page.waitForURL((url) => url.pathname !== '/sign-in');
      await run(page);
    });
    assert.deepEqual(
      page.problems.filter((problem) => !expected.test(problem)),
      [],
    );
  } finally {
    await page.context().close();
  }
}

/** Signs in through the form. */
export async function signIn(page, user = ADMIN, password = PASSWORD) {
  await page.goto('/');
  await page.getByLabel('User name').fill(user);
  await page.getByLabel('Password', { exact: true }).fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
}
