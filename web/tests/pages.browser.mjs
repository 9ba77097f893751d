// Every page: accessible by axe's rules, in every language, on calls that are published; and a long list that scrolls.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openPage, PASSWORD, Server, signIn, stage, watched } from './support.mjs';

const require = createRequire(import.meta.url);
const here = path.dirname(fileURLToPath(import.meta.url));
const POLICY = '0f0e3c4e-7a0b-4a51-9a53-3d3a3a1b2c4d';

let server;
let browser;
let device;
let job;
let tenant;
let bucket;
/** A snapshot that is not the newest. */
let older;
let axe;
/** Paths the console called. */
const called = new Set();

stage(async (...both) => {
  [server, browser] = both;
  axe = await readFile(require.resolve('axe-core/axe.min.js'), 'utf8');
  await server.addUser('anna');
  await server.addUser('bert');
  device = await server.addDevice('anna', { device: 'annas-laptop', files: { 'one.txt': 'one\n' } });
  job = await server.backup(device);
  await server.call('/api/v1/admin/policies/set', {
    PolicyID: POLICY,
    Policy: { Description: 'Offices', Policy: { ModeScheduleLastJobFailDoRetry: 3 } },
  });
  older = (
    await server.call('/api/v1/admin/dispatcher/request-vault-snapshots', {
      TargetID: device.connection,
      Destination: device.vault,
    })
  ).Snapshots[0].Snapshot;
  await writeFile(path.join(device.source, 'two.txt'), 'two\n');
  await server.backup(device);
  await server.call('/api/v1/admin/user-groups/new', { Name: 'Hospitals' });
  const made = await server.call('/api/v1/admin/organization/set', {
    Organization: { Name: 'North GmbH', Hosts: ['backup.north.example'] },
  });
  tenant = made.ID;
  [bucket] = Object.keys(await server.call('/api/v1/admin/storage/list-buckets'));
  await server.call('/api/v1/admin/squota/set-with-hash', {
    SharedStorageQuotaID: POLICY,
    SharedStorageQuota: { Description: 'Branches', OrganizationID: '', LimitBytes: 2 ** 40 },
  });
  await server.call('/api/v1/admin/admin-user/new', {
    TargetUser: 'second',
    TargetPassword: 'something long',
  });
  await server.call('/api/v1/admin/news/submit', { NewsContent: 'See https://status.example.org today' });
});

const folder = () => `/accounts/anna/vaults/${device.vault}`;
const item = () => `/accounts/anna/items/${device.item}`;

/** Addresses of every page, with a text that shows it is there. */
const adminPages = () => [
  ['/', 'Backups by result'],
  ['/accounts', 'bert'],
  ['/accounts?dialog=new', 'Display name'],
  ['/accounts/anna', 'Documents of annas-laptop'],
  ['/accounts/anna?tab=vaults', 'Main vault'],
  ['/accounts/anna?tab=devices', 'annas-laptop'],
  ['/accounts/anna?tab=jobs', 'Success'],
  ['/accounts/anna?tab=emails', 'Send e-mail reports'],
  ['/accounts/anna?tab=settings', 'Membership'],
  ['/accounts/anna?tab=profile', 'LocalTimezone'],
  ['/accounts/bert', 'No Protected Items yet'],
  [item(), 'Left out by regular expression'],
  [`${item()}?step=2`, 'Add rule'],
  [`${item()}?step=3`, 'Own retention'],
  ['/accounts/anna/vaults/new/edit', 'A place of your own'],
  ['/accounts/anna/vaults/new/edit?where=1000', 'Secret key'],
  [folder(), 'Restore everything'],
  ['/devices', 'annas-laptop'],
  ['/devices?tab=lobby', 'Nobody waits'],
  ['/devices?tab=updates', 'Start the campaign'],
  ['/install?q=anna', 'Make a token'],
  ['/downloads', 'Install by one line'],
  ['/jobs', 'Success'],
  [`/jobs/${job.GUID}`, 'Finished'],
  ['/activity', 'Documents of annas-laptop'],
  ['/policies', 'Offices'],
  [`/policies/${POLICY}`, 'Encryption keys'],
  ['/groups', 'Hospitals'],
  ['/news', 'status.example.org'],
  ['/tenants', 'North GmbH'],
  [`/tenants/${tenant}`, 'Choose a logo'],
  ['/admins', 'second'],
  ['/admins/second', 'Change server settings'],
  ['/storage', 'Measured'],
  ['/storage?tab=templates', 'No storage templates yet'],
  ['/settings', 'Protection of log-ins'],
  ['/settings?tab=roles', 'Storage Role'],
  ['/settings?tab=mail', 'Sent by'],
  ['/settings?tab=webhooks', 'No webhooks'],
  ['/settings?tab=branding', 'Choose a logo'],
  ['/settings?tab=document', 'AuthenticationRole'],
  ['/storage?tab=quotas', 'Branches'],
  [`/storage?dialog=${bucket}`, 'The trash is empty'],
  ['/settings?tab=login', 'OpenID Connect and LDAP for administrators'],
  ['/settings?tab=copies', 'copies itself nowhere'],
  ['/replication', 'Copied to no other server'],
  ['/cluster', 'The Constellation Role is switched off'],
  ['/audit', 'Added'],
  ['/audit?show=account&which=anna&dialog=1', 'From address'],
  ['/setup', 'Name of the service'],
  ['/setup?step=2', 'Folder of the buckets'],
  ['/setup?step=3', 'Sent by'],
  ['/setup?step=4', 'Copy it every night'],
  ['/setup?step=5', 'Account name'],
  ['/activity?by=device', 'annas-laptop'],
  [`${folder()}?compare=${older}`, 'folders compared'],
  ['/logs', 'lines, newest first'],
  ['/about', 'Running since'],
  ['/me', 'Security keys'],
];

const userPages = () => [
  ['/', 'Documents of annas-laptop'],
  ['/devices', 'annas-laptop'],
  ['/jobs', 'Success'],
  ['/news', 'status.example.org'],
  ['/me', 'One-time codes'],
  [folder(), 'Restore everything'],
];

async function violations(page) {
  if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(axe);
  return page.evaluate(async () => {
    // What still fades in has other colours.
    const passing = document
      .getAnimations()
      .filter((a) => a.effect?.getComputedTiming().iterations !== Infinity);
    await Promise.allSettled(passing.map((a) => a.finished));
    const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];
    const { violations } = await window.axe.run(document, { runOnly: { type: 'tag', values: tags } });
    return violations.map((v) => {
      const [first] = v.nodes;
      return `${v.id}: ${first.html.slice(0, 160)} ${first.any[0]?.message ?? ''}`;
    });
  });
}

/** What can be pressed but lies outside of the screen, and can not be scrolled to. */
const outside = (page) =>
  page.evaluate(() => {
    const reached = (element) => {
      for (let at = element.parentElement; at; at = at.parentElement) {
        const { overflowX, position } = getComputedStyle(at);
        if (overflowX === 'auto' || overflowX === 'scroll' || position === 'fixed') return true;
      }
      return false;
    };
    const lost = [...document.querySelectorAll('main :is(button, a[href], input, [role=combobox])')].filter(
      (element) => {
        const { left, right, width } = element.getBoundingClientRect();
        return width > 1 && (left < -1 || right > innerWidth + 1) && !reached(element);
      },
    );
    const told = lost.map((element) => `outside of the screen: ${element.outerHTML.slice(0, 120)}`);
    return document.documentElement.scrollWidth > innerWidth ? [...told, 'the page scrolls sideways'] : told;
  });

async function walk(user, pages, options) {
  const page = await openPage(browser, server, options);
  page.on('request', (request) => {
    const { pathname } = new URL(request.url());
    if (/^\/(api|gen)\//.test(pathname)) called.add(pathname);
  });
  const found = new Map();
  await watched(page, async () => {
    await signIn(page, user);
    await page.getByRole('main').getByRole('heading', { level: 1 }).waitFor();
    for (const [address, text] of pages) {
      // Moves inside the console, as a link would: the pages are not loaded anew each time.
      await page.evaluate((to) => {
        history.pushState({}, '', to);
        dispatchEvent(new PopStateEvent('popstate'));
      }, address);
      await page.getByText(text).filter({ visible: true }).first().waitFor();
      for (const violation of [...(await violations(page)), ...(options ? await outside(page) : [])]) {
        // One is told once, with the first page that has it.
        if (!found.has(violation)) found.set(violation, address);
      }
    }
  });
  assert.deepEqual(page.problems, []);
  await page.context().close();
  const told = [...found].map(([violation, address]) => `${address} ${violation}`);
  assert.ok(told.length === 0, told.join('\n'));
}

test("every page of an administrator passes axe's rules", () => walk('admin', adminPages()));

/** In the dark and on a phone at once: other colours and another layout. */
const PHONE = { colorScheme: 'dark', viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };

test('so does it in the dark on a phone, where nothing is cut off', () => walk('admin', adminPages(), PHONE));

for (const [look, options] of [
  ['', undefined],
  [' in the dark on a phone', PHONE],
]) {
  test(`every page of an end user passes axe's rules${look}`, () => walk('anna', userPages(), options));
}

test("the pages before the others pass axe's rules", async () => {
  await server.call('/api/v1/admin/add-user', {
    TargetUser: 'fresh',
    TargetPassword: PASSWORD,
    RequirePasswordChange: 1,
    StoreRecoveryCode: 1,
  });
  for (const colorScheme of ['light', 'dark']) {
    const page = await openPage(browser, server, { colorScheme });
    await watched(page, async () => {
      await page.goto('/');
      await page.getByLabel('User name').waitFor();
      assert.deepEqual(await violations(page), []);
      await signIn(page, 'fresh');
      await page.getByRole('heading', { name: 'Choose a new password' }).waitFor();
      assert.deepEqual(await violations(page), []);
    });
    await page.context().close();
  }
  const empty = await Server.start({ empty: true });
  const page = await openPage(browser, empty);
  try {
    await page.goto('/');
    await page.getByRole('button').first().waitFor();
    assert.deepEqual(await violations(page), []);
  } finally {
    await page.context().close();
    await empty.stop();
  }
});

test("the pages of reports pass axe's rules", async () => {
  const { ReportID } = await server.call('/api/encke/v1/reports/save-sample', { Size: 185, Seed: 1 });
  await walk('admin', [
    ['/reports', 'Person Registrations'],
    ['/reports/new?template=1001', 'Person ID'],
    ['/reports/sources', 'Data sources and templates'],
    ...[
      ['schedule', 'Times of'],
      ['share', 'They see the rows'],
      ['code', 'Nobody has called yet'],
      ['delete', 'Its API code stops working'],
    ].map(([dialog, text]) => [`/reports?dialog=${dialog}&which=${ReportID}`, text]),
    [`/reports/${ReportID}`, 'Person ID'],
  ]);
});

test('every call of the console is published', async () => {
  const { paths } = JSON.parse(await readFile(path.join(here, '../../docs/api/openapi.json'), 'utf8'));
  const known = (name) => name in paths || name === '/api/v1/events/stream' || name === '/gen/logo.img';
  assert.ok(called.size > 25, `${called.size} calls were recorded`);
  assert.deepEqual(
    [...called].filter((name) => !known(name)),
    [],
  );
});

test('the sources call nothing else', async () => {
  const { paths } = JSON.parse(await readFile(path.join(here, '../../docs/api/openapi.json'), 'utf8'));
  const { readdir } = await import('node:fs/promises');
  const src = path.join(here, '../src');
  const missing = [];
  for (const name of await readdir(src, { recursive: true })) {
    if (!/\.tsx?$/.test(name) || /schema\.d\.ts$|\.test\./.test(name)) continue;
    const text = await readFile(path.join(src, name), 'utf8');
    for (const [, address] of text.matchAll(/['"`](\/api\/[a-z0-9/-]+)['"`]/g)) {
      const prefix = address === '/api/v1/admin' || address === '/api/v1/user/web';
      if (!prefix && !(address in paths)) missing.push(`${name}: ${address}`);
    }
  }
  assert.deepEqual(missing, []);
});

for (const [locale, heading, text] of [
  ['de-DE', 'Konten', 'Nie gesichert'],
  ['es-ES', 'Cuentas', 'Nunca copiada'],
  ['fr-FR', 'Comptes', 'Jamais sauvegardé'],
  ['pt-PT', 'Contas', 'Nunca copiada'],
]) {
  test(`the console speaks ${locale}`, async () => {
    const page = await openPage(browser, server, { locale });
    await watched(page, async () => {
      await page.goto('/accounts');
      await page.locator('[name=username]').fill('admin');
      await page.locator('[name=password]').fill('correct horse battery');
      await page.keyboard.press('Enter');
      await page.getByRole('heading', { name: heading, exact: true }).waitFor();
      await page.getByText(text).filter({ visible: true }).first().waitFor();
      assert.equal(await page.evaluate(() => document.documentElement.lang), locale.slice(0, 2));
    });
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });
}

test('fifty thousand accounts are searched and scrolled through', async () => {
  const page = await openPage(browser, server);
  const empty = {
    Devices: {},
    Sources: {},
    Destinations: {},
    BackupRules: {},
    Emails: [],
    PolicyID: '',
    GroupID: '',
  };
  const many = Object.fromEntries(
    Array.from({ length: 50_000 }, (_, i) => {
      const Username = `account-${String(i).padStart(5, '0')}`;
      return [Username, { ...empty, Username, AccountName: `Customer ${i}`, CreateTime: 1_700_000_000 + i }];
    }),
  );
  const body = JSON.stringify(many);
  await page.route('**/api/v1/admin/list-users-full', (route) =>
    route.fulfill({ contentType: 'application/json', body }),
  );
  await watched(page, async () => {
    await signIn(page);
    await page.getByRole('link', { name: 'Accounts', exact: true }).click();
    await page.getByRole('link', { name: 'account-00000' }).waitFor();
    const rows = await page.locator('.rows tbody tr').count();
    assert.ok(rows < 100, `${rows} rows exist`);
    const last = page.getByRole('link', { name: 'account-49999' });
    for (let i = 0; i < 10 && !(await last.isVisible()); i++) {
      await page.locator('.rows').evaluate((box) => box.scrollTo(0, box.scrollHeight));
      await page.waitForTimeout(i * 200);
    }
    await last.waitFor();
    await page.getByLabel('Search accounts').fill('43210');
    await page.getByRole('link', { name: 'account-43210' }).waitFor();
    await page.locator('.rows').focus();
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    await page.waitForURL('**/accounts/account-43210');
  });
  await page.context().close();
});

test('the command palette leads everywhere by keyboard alone', async () => {
  const page = await openPage(browser, server);
  await watched(page, async () => {
    await signIn(page);
    await page.getByRole('heading', { name: 'Home' }).waitFor();
    await page.keyboard.press('Control+k');
    await page.getByRole('combobox', { name: 'Search and commands' }).fill('bert');
    await page.getByRole('option', { name: /bert/ }).waitFor();
    await page.keyboard.press('Enter');
    await page.waitForURL('**/accounts/bert');
    await page.keyboard.press('Control+k');
    await page.getByRole('combobox', { name: 'Search and commands' }).fill('poli');
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: /New policy/ }).waitFor();
    await page.getByRole('heading', { level: 1 }).click();
    await page.keyboard.press('g');
    await page.keyboard.press('j');
    await page.waitForURL('**/jobs');
    await page.keyboard.press('Shift+?');
    await page.getByRole('dialog').getByText('In a list: open the row').waitFor();
    assert.deepEqual(await violations(page), []);
  });
  assert.deepEqual(page.problems, []);
  await page.context().close();
});

test('no inline script runs, and nothing is fetched from elsewhere', async () => {
  const page = await openPage(browser, server);
  await page.goto('/');
  await page.getByLabel('User name').waitFor();
  const refused = await page.evaluate(async () => {
    const told = [];
    const both = new Promise((resolve) => {
      document.addEventListener('securitypolicyviolation', (event) => {
        told.push(event.effectiveDirective);
        if (told.length === 2) resolve();
      });
    });
    const script = document.createElement('script');
    script.textContent = 'window.ran = true';
    document.body.append(script);
    await fetch('https://example.org/').catch(() => undefined);
    await both;
    return { told, ran: 'ran' in window };
  });
  assert.equal(refused.ran, false);
  assert.deepEqual(refused.told.sort(), ['connect-src', 'script-src-elem']);
  await page.context().close();
});

test("a tenant's host shows the tenant's name and colours", async () => {
  const { port } = new URL(server.url);
  await server.call('/api/v1/admin/organization/set', {
    Organization: {
      Name: 'South GmbH',
      Hosts: ['localhost'],
      Branding: { BrandName: 'South Backup', TopColor: '#004400', AccentColor: '#ffcc00' },
    },
  });
  const page = await openPage(browser, { ...server, url: `http://localhost:${port}` });
  await watched(page, async () => {
    await page.goto(`http://localhost:${port}/`);
    await page.getByRole('heading', { name: 'South Backup' }).waitFor();
    assert.match(await page.title(), /South Backup/);
    await page.goto(server.url);
    await page.getByRole('heading', { name: 'Encke' }).waitFor();
  });
  await page.context().close();
});
