// What shows how things stand and what changed: charts, named views, snapshots compared, and the ways that
// lead from a new server to its first device.
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { ADMIN, actAs, openPage, PASSWORD, Server, stage, until, watched } from './support.mjs';

let server;
let browser;
let device;

stage(async (...both) => {
  [server, browser] = both;
  for (const name of ['anna', 'bert', 'clara']) await server.addUser(name);
  device = await server.addDevice('anna', {
    device: 'annas-laptop',
    files: { 'stays.txt': 'same\n', 'goes.txt': 'old\n', 'sub/grows.txt': 'a\n', 'quiet/one.txt': '1\n' },
  });
  await server.backup(device);
});

const as = (user, run, options) => actAs(browser, server, user, run, options);
const button = (page, name) => page.getByRole('button', { name, exact: true });

test('the home says how things stand, and each chart leads to what it counts', () =>
  as('admin', async (page) => {
    const attention = page.getByRole('list', { name: 'Needs attention' });
    await attention.getByRole('link', { name: 'bert' }).waitFor();
    await page.getByRole('navigation', { name: 'Accounts by the state of their backups' }).waitFor();
    const chart = page.getByRole('group', { name: /^Backups of the last 30 days/ });
    await chart.waitFor();
    // By keyboard: the newest day has the focus first, the arrow keys go to the others.
    const days = chart.getByRole('link');
    assert.equal(await days.count(), 30);
    const today = chart.getByRole('link', { name: /Success: 1/ });
    await today.focus();
    await page.keyboard.press('ArrowLeft');
    await page.keyboard.press('ArrowRight');
    assert.match(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), /Success: 1/);
    // By mouse, too, and for as many days as wanted, which stands in the address.
    await today.hover();
    const tip = await today.evaluate((column) => getComputedStyle(column, '::after').content);
    assert.match(tip, /Success: 1/);
    const growth = page.getByRole('group', { name: /^Added by backups/ }).getByRole('link');
    assert.match(await growth.last().getAttribute('aria-label'), /Added: (\d+ B|.* \([\d,]+ B\))$/);
    const choice = page.getByRole('radiogroup', { name: 'Days of the charts' });
    for (const n of [90, 7]) {
      await choice.getByText(`${n} days`).click();
      await page.waitForURL(`**/?day=${n}`);
      const drawn = page.getByRole('group', { name: `Backups of the last ${n} days by result` });
      await drawn.getByRole('link', { name: /Success: 1/ }).waitFor();
      assert.equal(await drawn.getByRole('link').count(), n);
    }
    await page.reload();
    await page.getByRole('group', { name: /^Backups of the last 7 days/ }).waitFor();
    await choice.getByText('30 days').click();
    await page.waitForURL((url) => url.search === '');
    // The same numbers as a table.
    await page.getByText('As a table').first().click();
    await page
      .getByRole('region', { name: /^Backups of the last 30 days/ })
      .getByText('1')
      .first()
      .waitFor();
    await today.focus();
    await page.keyboard.press('Enter');
    await page.waitForURL(/\/jobs\?from=\d+&to=\d+$/);
    await page.locator('[data-status="5000"]').first().waitFor();
    await page.getByRole('button', { name: /Show other times, too$/ }).click();
    await page.waitForURL((url) => url.search === '');
    await page.getByRole('link', { name: 'Home' }).click();
    await page
      .getByRole('navigation', { name: 'Accounts by the state of their backups' })
      .getByRole('link', { name: /Never backed up/ })
      .click();
    await page.waitForURL('**/accounts?show=never');
    await page.getByRole('link', { name: 'clara' }).waitFor();
  }));

test('a view keeps filters, sorting and columns, has an address, and comes back after it was removed', () =>
  as('admin', async (page) => {
    await page.goto('/accounts');
    await page.getByRole('combobox', { name: 'Backups' }).click();
    await page.getByRole('option', { name: 'Never backed up' }).click();
    await page.getByRole('columnheader', { name: 'Account' }).getByRole('button').click();
    await button(page, 'Columns').click();
    await page.getByRole('checkbox', { name: 'Created' }).check();
    await page.getByRole('checkbox', { name: 'Policy' }).uncheck();
    await page.keyboard.press('Escape');
    await button(page, 'Views').click();
    await page.getByLabel('Name of the view').fill('Sleepers');
    await button(page, 'Keep').click();
    await page.getByRole('dialog').getByRole('link', { name: 'Sleepers' }).click();
    const shown = async () => {
      await page.getByRole('link', { name: 'clara' }).waitFor();
      assert.equal(await page.getByRole('link', { name: 'anna' }).count(), 0);
      const names = await page.locator('.rows tbody tr td:first-child').allInnerTexts();
      assert.deepEqual(names, ['clara', 'bert']);
      const heads = await page.getByRole('columnheader').allInnerTexts();
      assert.ok(heads.includes('Created') && !heads.includes('Policy'), heads.join());
    };
    await shown();
    const address = page.url();
    assert.match(address, /show=never/);
    // From another page by the side bar, and by its address alone.
    await page.getByRole('link', { name: 'Job history' }).click();
    await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Sleepers' }).click();
    await shown();
    await page.evaluate(() => localStorage.removeItem('encke-columns-accounts'));
    await page.goto(address);
    await shown();
    await button(page, 'Sleepers').click();
    await button(page, "Remove 'Sleepers'").click();
    await page.getByText("'Sleepers' is removed.").waitFor();
    await button(page, 'Undo').click();
    await page.getByRole('dialog').getByRole('link', { name: 'Sleepers' }).waitFor();
  }));

test('a view is shared with all administrators, and comes back after it was removed', async () => {
  await server.call('/api/v1/admin/admin-user/new', { TargetUser: 'second', TargetPassword: PASSWORD });
  await as('second', async (page) => {
    await page.goto('/accounts?show=never');
    await button(page, 'Views').click();
    await page.getByLabel('Name of the view').fill('Look after these');
    await page.getByLabel('For all administrators').check();
    await button(page, 'Keep').click();
    await page.getByRole('dialog').getByText('shared by second').waitFor();
  });
  await as('admin', async (page) => {
    await page.goto('/jobs');
    const pages = page.getByRole('navigation', { name: 'Pages' });
    await pages.getByRole('link', { name: 'Look after these' }).click();
    await page.waitForURL(/\/accounts\?.*show=never/);
    await button(page, 'Look after these').click();
    await button(page, "Remove 'Look after these'").click();
    await pages.getByRole('link', { name: 'Look after these' }).waitFor({ state: 'detached' });
    await button(page, 'Undo').click();
    await pages.getByRole('link', { name: 'Look after these' }).waitFor();
  });
  // What they share is no user's.
  await as('anna', async (page) => {
    await page.getByRole('heading', { name: 'Welcome, anna' }).waitFor();
    assert.equal(await page.getByRole('link', { name: 'Look after these' }).count(), 0);
  });
});

test('two snapshots are compared', () =>
  as('anna', async (page) => {
    await rm(path.join(device.source, 'goes.txt'));
    await writeFile(path.join(device.source, 'comes.txt'), 'new\n');
    await writeFile(path.join(device.source, 'sub/grows.txt'), 'a longer text\n');
    await server.backup(device);
    await page.goto(`/accounts/anna/vaults/${device.vault}`);
    await button(page, 'What changed').click();
    await page.getByText(/· all of it/).waitFor();
    const rows = await page.locator('.rows tbody tr').allInnerTexts();
    const told = rows.map((row) => row.split('\t').map((cell) => cell.trim()));
    const { source } = device;
    assert.deepEqual(
      told.map(([name, folder, kind, , , growth]) => [name, folder, kind, growth]).sort(),
      [
        ['comes.txt', source, 'Added', '+4 B'],
        ['goes.txt', source, 'Removed', '−4 B'],
        ['grows.txt', path.join(source, 'sub'), 'Changed', '+12 B'],
      ].sort(),
    );
    await page.getByRole('link', { name: /grows\.txt/ }).click();
    await page.getByLabel('Select grows.txt').waitFor();
  }));

test('what is open has an address', () =>
  as('admin', async (page) => {
    const vault = `/accounts/anna/vaults/${device.vault}`;
    await page.goto(vault);
    await button(page, 'Calendar').click();
    await page.waitForURL(`**${vault}?show=calendar`);
    await page.reload();
    const day = page.getByRole('button', { name: /snapshots?$/ }).first();
    await day.click();
    await page.waitForURL(/\?show=calendar/);
    await page.goto(`${vault}?dialog=find`);
    await page.getByRole('dialog').getByLabel('Part of its name').waitFor();
    await page.keyboard.press('Escape');
    await page.waitForURL(`**${vault}`);
    await page.goto(`/accounts/anna?dialog=backup&which=${device.item}`);
    await page.getByRole('dialog').getByRole('button', { name: 'Start backup' }).waitFor();
    await page.goBack();
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    // Questions and forms too, whose way back leads to the page.
    const dialog = page.getByRole('dialog');
    const folder = path.join(device.source, 'sub');
    const asked = {
      '/accounts/bert?dialog=delete': 'Delete account',
      '/accounts/bert?dialog=password': 'Reset password',
      [`/accounts/anna?dialog=delete-item&which=${device.item}`]: 'Delete Protected Item',
      [`/accounts/anna?tab=vaults&dialog=delete-vault&which=${device.vault}`]: 'Delete Storage Vault',
      '/accounts/anna?tab=devices&dialog=revoke&which=annas-laptop': 'Revoke device',
      [`${vault}?dialog=restore`]: 'Restore everything',
      [`${vault}?dialog=restore&which=${encodeURIComponent(folder)}`]: 'Restore sub',
      [`${vault}?path=${encodeURIComponent(folder)}&dialog=download&which=${encodeURIComponent(`${folder}/grows.txt`)}`]:
        'Download grows.txt',
      [`${vault}?dialog=delete`]: 'Delete snapshot',
      '/settings?dialog=stop': 'Stop the server',
      '/admins?dialog=new': 'Add administrator',
    };
    // A download that has come closes its dialog; this one does not come.
    await page.route('**/api/encke/v1/snapshot/file', () => {});
    for (const [address, title] of Object.entries(asked)) {
      await page.goto(address);
      await page.getByRole('dialog', { name: title, exact: true }).waitFor();
      await page.keyboard.press('Escape');
      await dialog.waitFor({ state: 'detached' });
      assert.doesNotMatch(page.url(), /dialog=/, address);
    }
    await page.goto('/accounts/bert');
    await button(page, 'Actions').click();
    await page.getByRole('menuitem', { name: 'Delete account' }).click();
    await page.waitForURL('**/accounts/bert?dialog=delete');
    await page.goBack();
    await dialog.waitFor({ state: 'detached' });
    await page.goForward();
    // What was typed is forgotten with the dialog.
    await dialog.getByLabel(/^Type 'bert'/).fill('bert');
    await button(dialog, 'Cancel').click();
    await page.waitForURL('**/accounts/bert');
    await page.goto('/accounts/bert?dialog=delete');
    assert.equal(await dialog.getByLabel(/^Type 'bert'/).inputValue(), '');
    // A row that is far down the list is there for its dialog.
    for (let i = 0; i < 60; i += 1) {
      await server.call('/api/v1/admin/user-groups/new', { Name: `Group ${String(i).padStart(2, '0')}` });
    }
    const groups = Object.entries(await server.call('/api/v1/admin/user-groups/list-full'));
    const [last] = groups.find(([, group]) => group.Name === 'Group 59');
    await page.goto(`/groups?dialog=delete&which=${last}`);
    await dialog.getByText("The accounts of 'Group 59' stay").waitFor();
    // Relative times tell the exact one.
    await page.goto('/jobs');
    const started = page.locator('.rows time').first();
    await started.hover();
    const exact = await started.evaluate((time) => new Date(time.dateTime).toLocaleString('en-US'));
    await page.getByRole('tooltip', { name: exact }).waitFor();
  }));

test('what is to be copied comes to the clipboard', () =>
  as(
    'admin',
    async (page) => {
      const copied = () => page.evaluate(() => navigator.clipboard.readText());
      await page.goto('/accounts');
      await page.getByRole('link', { name: 'anna' }).waitFor();
      await button(page, 'Save or copy').click();
      await page.getByRole('menuitem', { name: 'Copy the table' }).click();
      await until('the table', async () => /^Account\t[^]*\nanna\t/m.test(await copied()));
      await page.goto(`/jobs/${(await server.jobs())[0].GUID}`);
      await page.getByRole('heading', { level: 1 }).waitFor();
      await button(page, 'Copy the job ID').click();
      await until(
        'the id of the job',
        async () => (await copied()) === new URL(page.url()).pathname.slice(6),
      );
    },
    { permissions: ['clipboard-read', 'clipboard-write'] },
  ));

test('devices have strips of their last days', () =>
  as('admin', async (page) => {
    await page.goto('/activity');
    await page.getByRole('radiogroup', { name: 'By what' }).getByText('Devices').click();
    await page.waitForURL('**/activity?by=device');
    await page.locator('.strip a[data-tone=good]').first().click();
    await page.waitForURL('**/jobs/*');
  }));

test('a change shows at once, and is taken back when the server refuses it', () =>
  as('admin', async (page) => {
    let refuse;
    const asked = new Promise((resolve) => {
      refuse = resolve;
    });
    await page.route('**/api/v1/admin/set-user-profile-hash', async (route) => {
      await asked;
      await route.fulfill({ json: { Status: 500, Message: 'The disk is full' } });
    });
    await page.goto('/accounts/bert');
    await button(page, 'Actions').click();
    await page.getByRole('menuitem', { name: 'Suspend' }).click();
    const tag = page.getByRole('heading', { level: 1 }).getByText('Suspended');
    await tag.waitFor();
    refuse();
    await page.getByText('The disk is full').waitFor();
    await tag.waitFor({ state: 'detached' });
  }));

test('from an empty server to its first device', async () => {
  const fresh = await Server.start({ empty: true });
  const page = await openPage(browser, fresh);
  try {
    await watched(page, async () => {
      await page.goto('/');
      await page.getByLabel('User name').fill(ADMIN);
      await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
      await page.getByLabel('Password again').fill(PASSWORD);
      await button(page, 'Make administrator').click();
      await page.getByRole('link', { name: 'Set up this server' }).click();
      await page.getByLabel('Name of the service').fill('North Backup');
      await page.getByRole('button', { name: /^Take the address of this page/ }).click();
      await button(page, 'Next').click();
      await page.getByLabel('Folder of the buckets').waitFor();
      await button(page, 'Next').click();
      await page.getByLabel('Sent by').first().waitFor();
      await button(page, 'Next').click();
      await button(page, 'Copy it every night').click();
      await page.getByLabel('Folder on the server').fill(path.join(fresh.folder, 'copies'));
      await button(page, 'Save and go on').click();
      await page.getByLabel('Account name').fill('anna');
      const config = await fresh.call('/api/v1/admin/meta/server-config/get');
      assert.equal(config.Branding.BrandName, 'North Backup');
      assert.equal(config.Branding.DefaultLoginServerURL, fresh.url);
      assert.equal(config.SelfBackup.Targets.length, 1);
      await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
      await button(page, 'Add it, then its device').click();
      await page.waitForURL('**/install?q=anna');
      await page.getByLabel('Password of the account').fill(PASSWORD);
      await button(page, 'Make a token').click();
      const line = await page.getByText('--token').innerText();
      const [, token] = /--token (\S+)/.exec(line);
      await page.getByText('Waiting for the device').waitFor();
      await fresh.deviceByToken(token, 'first-device');
      await page.getByText('The device is on line').waitFor();
      await page.getByRole('link', { name: 'Say what is backed up' }).click();
      await page.waitForURL('**/accounts/anna/items/new?device=first-device');
    });
    // While the server starts anew it does not answer for a moment.
    const known = /ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|WebSocket|ERR_EMPTY_RESPONSE/;
    assert.deepEqual(
      page.problems.filter((problem) => !known.test(problem)),
      [],
    );
  } finally {
    await page.context().close();
    await fresh.stop();
  }
});
