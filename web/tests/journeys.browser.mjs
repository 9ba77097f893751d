// What administrators and end users do all day, on a real server with a real device.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { actAs, stage, until } from './support.mjs';

const FILES = {
  'letter.txt': 'Dear comet,\n',
  'sub folder/numbers.txt': 'one two three\n'.repeat(50_000),
  'sub folder/deep/ünïcode.txt': 'deep\n',
};

let server;
let browser;
let device;

stage(async (...both) => {
  [server, browser] = both;
  await server.addUser('anna');
  await server.addUser('bert');
  device = await server.addDevice('anna', { device: 'annas-laptop', files: FILES });
});

const as = (user, run, options) => actAs(browser, server, user, run, options);

const finished = (page) => page.locator('[data-status="5000"]').first().waitFor();

/** Full paths of the device's files as the snapshot has them. */
const inside = (...names) => path.join(device.source, ...names);

test('the accounts are listed, searched, and lead to their pages', () =>
  as('admin', async (page) => {
    await page.getByRole('link', { name: 'Accounts', exact: true }).click();
    await page.getByRole('link', { name: 'bert' }).waitFor();
    await page.getByLabel('Search accounts').fill('ann');
    await page.getByRole('link', { name: 'bert' }).waitFor({ state: 'detached' });
    await page.getByRole('link', { name: 'anna' }).click();
    await page.getByText('Documents of annas-laptop').waitFor();
    await page.getByRole('tab', { name: 'Storage Vaults' }).click();
    await page.getByText('Main vault').waitFor();
    await page.getByRole('tab', { name: 'Document' }).click();
    await page.getByText('"Username": "anna"').waitFor();
  }));

test('an account added elsewhere appears by itself', () =>
  as('admin', async (page) => {
    await page.getByRole('link', { name: 'Accounts', exact: true }).click();
    await page.waitForURL('**/accounts');
    await page.getByRole('link', { name: 'anna', exact: true }).waitFor();
    await server.addUser('clara');
    await page.getByRole('link', { name: 'clara' }).waitFor();
  }));

test('an account is added', () =>
  as('admin', async (page) => {
    await page.getByRole('link', { name: 'Accounts', exact: true }).click();
    await page.getByRole('button', { name: 'Add account' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Account name').fill('dora');
    await dialog.getByLabel('Password', { exact: true }).fill('long enough');
    await dialog.getByRole('button', { name: 'Add', exact: true }).click();
    await page.waitForURL('**/accounts/dora');
    await page.getByText('Register a device').waitFor();
  }));

test('a backup is started and watched to its end, with its log', () =>
  as('admin', async (page) => {
    await page.goto('/accounts/anna');
    await page.getByRole('button', { name: 'Back up' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Start backup' }).click();
    await page.waitForURL('**/jobs/*');
    await finished(page);
    await page.getByRole('log').getByText('Finished').waitFor();
    const id = new URL(page.url()).pathname.split('/').at(-1);
    const job = await server.call('/api/v1/admin/get-job-properties', { JobID: id });
    assert.equal(job.Status, 5000);
    assert.equal(job.TotalFiles, Object.keys(FILES).length);
    await page.getByRole('link', { name: 'Job history' }).click();
    await page.getByText('Backup').first().waitFor();
    await page.getByRole('combobox', { name: 'Status' }).click();
    await page.getByRole('option', { name: 'Running' }).click();
    await page.locator('[data-status="5000"]').first().waitFor({ state: 'detached' });
  }));

test('a job that is started elsewhere appears by itself', () =>
  as('admin', async (page) => {
    await page.goto('/jobs');
    await page.getByRole('heading', { name: /Job history/ }).waitFor();
    const before = (await server.jobs()).length;
    const links = () => page.locator('a[href^="/jobs/"][data-status], a[href^="/jobs/"]').count();
    const shown = await links();
    await server.backup(device);
    assert.equal((await server.jobs()).length, before + 1);
    await until('the new job', async () => (await links()) > shown);
  }));

test('a running job is seen to move, in the list and on its page, and ends there without a reload', async () => {
  await server.addUser('erika');
  const megabyte = 2 ** 20;
  const slow = await server.addDevice('erika', {
    device: 'slow',
    files: Object.fromEntries(
      Array.from({ length: 100 }, (_, i) => [`scan ${i}.raw`, randomBytes(2 * megabyte)]),
    ),
  });
  await server.edit('erika', (profile) => {
    profile.BackupRules[slow.rule].LimitVaultSpeedBps = 16 * megabyte;
  });
  await as('admin', async (page) => {
    await page.goto('/jobs');
    await page.getByRole('heading', { name: 'Job history' }).waitFor();
    // Would be gone after a reload.
    await page.evaluate(() => {
      window.sameDocument = true;
    });
    const { JobID } = await server.call('/api/v1/admin/dispatcher/run-backup', {
      TargetID: slow.connection,
      BackupRule: slow.rule,
    });
    const percent = async (bar) => Number(await bar.getAttribute('aria-valuenow').catch(() => null));
    /** Waits until a bar has stood at three places, one after the other. */
    const moves = async (bar) => {
      const seen = [];
      await until('progress', async () => {
        const now = await percent(bar);
        if (now > (seen.at(-1) ?? 0)) seen.push(now);
        return seen.length >= 3;
      });
    };
    const row = page.getByRole('row').filter({ hasText: 'erika' });
    await moves(row.getByRole('progressbar'));
    await row.locator(`a[href="/jobs/${JobID}"]`).first().click();
    const told = page.getByTestId('progress');
    const first = await told.innerText();
    await until('more progress', async () => (await told.innerText().catch(() => first)) !== first);
    await page.getByRole('progressbar').waitFor();
    await page.getByRole('log').getByText('Finished').waitFor();
    await finished(page);
    await told.waitFor({ state: 'detached' });
    await page.goBack();
    await row.locator('[data-status="5000"]').waitFor();
    assert.equal(await page.evaluate(() => window.sameDocument), true, 'the page was loaded anew');
  });
});

test('connected devices are listed', () =>
  as('admin', async (page) => {
    await page.getByRole('link', { name: 'Devices', exact: true }).click();
    await page.getByText('annas-laptop').first().waitFor();
  }));

test('a snapshot is browsed and part of it restored', () =>
  as('admin', async (page) => {
    await server.backup(device);
    await page.goto(`/accounts/anna/vaults/${device.vault}`);
    for (const name of device.source.split('/').filter(Boolean)) {
      await page.getByRole('link', { name: `${name}/`, exact: true }).click();
    }
    const folder = page.getByLabel('Select sub folder');
    await folder.waitFor();
    // The folder is in the address: loading it anew shows it again.
    await page.reload();
    await folder.check();
    await page.getByRole('button', { name: /Restore .*selected/ }).click();
    const target = path.join(device.folder, 'restored');
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Folder on the device').fill(target);
    await dialog.getByRole('button', { name: 'Start restore' }).click();
    await page.waitForURL('**/jobs/*');
    await finished(page);
    const restored = (...names) => readFile(path.join(target, inside(...names)), 'utf8');
    assert.equal(await restored('sub folder', 'numbers.txt'), FILES['sub folder/numbers.txt']);
    assert.equal(await restored('sub folder', 'deep', 'ünïcode.txt'), FILES['sub folder/deep/ünïcode.txt']);
    await assert.rejects(restored('letter.txt'), { code: 'ENOENT' });
  }));

test('an end user backs up and restores without an administrator', () =>
  as('anna', async (page) => {
    await page.getByRole('heading', { name: 'Welcome, anna' }).waitFor();
    await page.getByRole('button', { name: 'Back up' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Start backup' }).click();
    await page.waitForURL('**/jobs/*');
    await finished(page);
    await page.goto(`/accounts/anna/vaults/${device.vault}`);
    await page.getByRole('button', { name: 'Restore everything' }).click();
    const target = path.join(device.folder, 'all');
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Folder on the device').fill(target);
    await dialog.getByRole('button', { name: 'Start restore' }).click();
    await page.waitForURL('**/jobs/*');
    await finished(page);
    assert.equal(await readFile(path.join(target, inside('letter.txt')), 'utf8'), FILES['letter.txt']);
  }));

test('the pages work on a phone', () =>
  as(
    'admin',
    async (page) => {
      await page.getByRole('button', { name: 'Menu' }).click();
      await page.getByRole('link', { name: 'Accounts', exact: true }).click();
      await page.getByRole('heading', { name: 'Accounts' }).waitFor();
      await page.getByRole('link', { name: 'anna' }).click();
      await page.getByText('Documents of annas-laptop').waitFor();
      const wide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
      assert.equal(wide, false, 'the page scrolls sideways');
    },
    { viewport: { width: 390, height: 844 } },
  ));
