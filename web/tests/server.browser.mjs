// The server's own affairs, and what a device does for its vaults: by the console's buttons, seen to be done.
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { ADMIN, actAs, PASSWORD, Server, stage, until } from './support.mjs';

const BIG = 'a line of a large file\n'.repeat(100_000);

let server;
let browser;
let device;

stage(async (...both) => {
  [server, browser] = both;
  await server.addUser('anna');
  const files = { 'letter.txt': 'Dear comet,\n', 'big.txt': BIG };
  device = await server.addDevice('anna', { device: 'annas-laptop', files });
  await server.backup(device);
});

const as = (user, run, options) => actAs(browser, server, user, run, options);
const button = (page, name) => page.getByRole('button', { name, exact: true });
const vault = () => `/accounts/anna/vaults/${device.vault}`;

for (const user of ['anna', 'admin']) {
  test(`${user} finds a file in the snapshots and downloads it`, () =>
    as(user, async (page) => {
      await page.goto(vault());
      await button(page, 'Find a file').click();
      await page.getByLabel('Part of its name').fill('nothing like it');
      await button(page, 'Find').click();
      await page.getByText('No snapshot has such a file').waitFor();
      await page.getByLabel('Part of its name').fill('BIG');
      await button(page, 'Find').click();
      await page
        .getByRole('dialog')
        .getByRole('link', { name: /big\.txt/ })
        .click();
      const get = button(page, 'Download big.txt');
      await get.waitFor();
      const [saved] = await Promise.all([page.waitForEvent('download'), get.click()]);
      assert.equal(saved.suggestedFilename(), 'big.txt');
      assert.equal(await readFile(await saved.path(), 'utf8'), BIG);
    }));
}

for (const [item, kind] of [
  ['Apply retention now', 4003],
  ['Verify deeply', 4010],
  ['Rebuild the index', 4009],
  ['Remove old locks', 4004],
]) {
  test(`a vault is looked after: ${item}`, () =>
    as('admin', async (page) => {
      const before = new Set((await server.jobs()).map((job) => job.GUID));
      await page.goto('/accounts/anna?tab=vaults');
      await page.getByRole('button', { name: /^More for/ }).click();
      await page.getByRole('menuitem', { name: item }).click();
      const job = await until('the job to end', async () => {
        const all = await server.jobs();
        return all.find((j) => !before.has(j.GUID) && j.Status < 6000);
      });
      assert.deepEqual([job.Status, job.Classification], [5000, kind]);
    }));
}

test('a bucket gets rules', () =>
  as('admin', async (page) => {
    await page.goto('/storage');
    await button(page, 'Rules').first().click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('The trash is empty').waitFor();
    await dialog.getByLabel('Most it may hold').fill('5');
    await dialog.getByLabel('Keep deleted data for').fill('30');
    await dialog.getByRole('button', { name: 'Save' }).click();
    await dialog.waitFor({ state: 'detached' });
    const [bucket] = Object.keys(await server.call('/api/v1/admin/storage/list-buckets'));
    const rules = await server.call('/api/encke/v1/bucket/rules', { BucketID: bucket });
    assert.deepEqual(rules, { QuotaBytes: 5 * 2 ** 30, AppendOnly: false, TrashDays: 30 });
  }));

test('a deleted snapshot comes back out of the trash', async () => {
  const { connection } = device;
  const place = { TargetID: connection, DestinationID: device.vault };
  const list = () =>
    server.call('/api/v1/admin/dispatcher/request-vault-snapshots', {
      TargetID: connection,
      Destination: device.vault,
    });
  await server.backup(device);
  const before = (await list()).Snapshots.map((s) => s.Snapshot).sort();
  await server.call('/api/v1/admin/dispatcher/delete-snapshot', { ...place, SnapshotID: before[0] });
  await until('the snapshot to go', async () => (await list()).Snapshots.length < before.length);
  await as('admin', async (page) => {
    const [bucket] = Object.keys(await server.call('/api/v1/admin/storage/list-buckets'));
    await page.goto(`/storage?dialog=${bucket}`);
    await button(page, 'Bring back since then').first().click();
    await page.getByText(/(is|are) back/).waitFor();
  });
  await until('the snapshot to be back', async () => {
    const now = (await list()).Snapshots.map((s) => s.Snapshot).sort();
    return before.every((id) => now.includes(id));
  });
});

test('accounts share a quota', () =>
  as('admin', async (page) => {
    await page.goto('/storage?tab=quotas');
    await button(page, 'Add shared quota').click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Name').fill('Branches');
    await dialog.getByLabel('Limit of all together').fill('100');
    await dialog.getByRole('button', { name: 'Save' }).click();
    await page.getByText('100 GiB').waitFor();
    await page.goto(`${vault()}/edit`);
    await page.getByRole('combobox', { name: 'Shared quota' }).click();
    await page.getByRole('option', { name: 'Branches' }).click();
    await button(page, 'Save').click();
    const { Entries } = await server.call('/api/v1/admin/squota/list-all');
    const [[id, quota]] = Object.entries(Entries);
    assert.deepEqual([quota.Description, quota.LimitBytes], ['Branches', 100 * 2 ** 30]);
    await until('the vault to join', async () => {
      const { Profile } = await server.call('/api/v1/admin/get-user-profile-and-hash', {
        TargetUser: 'anna',
      });
      return Profile.Destinations[device.vault].StorageLimitID === id;
    });
  }));

test('what was changed is in the audit', () =>
  as('admin', async (page) => {
    await server.addUser('zacharias');
    await server.edit('zacharias', (profile) => {
      profile.AccountName = 'Zacharias Zeuner';
    });
    await page.goto('/audit');
    await page.getByRole('link', { name: 'zacharias' }).first().waitFor();
    await page.getByRole('combobox', { name: 'Changes of' }).click();
    await page.getByRole('option', { name: 'Tenant' }).click();
    await page.getByText('Nothing fits the search').waitFor();
    await page.getByRole('combobox', { name: 'Changes of' }).click();
    await page.getByRole('option', { name: 'Account', exact: true }).click();
    await page.getByLabel('Search changes').fill('zeuner');
    // What was searched for stands in what was changed alone.
    await page.getByRole('button', { name: 'AccountName: Zacharias Zeuner' }).click();
    const entry = page.getByRole('dialog');
    const cells = entry.getByRole('row', { name: /AccountName/ }).getByRole('cell');
    assert.deepEqual(await cells.allInnerTexts(), ['', 'Zacharias Zeuner']);
    await entry.getByText('127.0.0.1').waitFor();
    // The entry has an address of its own.
    await page.reload();
    await entry.getByRole('link', { name: 'zacharias' }).click();
    await page.waitForURL('**/accounts/zacharias');
    await button(page, 'Actions').click();
    await page.getByRole('menuitem', { name: 'Changes of this account' }).click();
    await page.waitForURL('**/audit?show=account&which=zacharias');
    await page.getByRole('button', { name: /AccountName/ }).waitFor();
    const download = page.waitForEvent('download');
    await button(page, 'Save or copy').click();
    await page.getByRole('menuitem', { name: 'Save as CSV' }).click();
    const text = await readFile(await (await download).path(), 'utf8');
    assert.match(text, /"?AccountName: Zacharias Zeuner/);
    assert.match(text, /127\.0\.0\.1/);
  }));

test('the server copies itself to a folder', () =>
  as(
    'admin',
    async (page) => {
      const folder = path.join(server.folder, 'copies');
      await page.goto('/settings?tab=copies');
      await button(page, 'Add place').click();
      await page.getByLabel('Folder on the server').fill(folder);
      await page.getByLabel('Password of the file').fill('a key');
      await button(page, 'Save').click();
      await page.getByText('Unsaved changes').waitFor({ state: 'detached' });
      await page.getByText('Not yet since the start').waitFor();
      await button(page, 'Copy now').click();
      await page.getByText('Done').waitFor();
      const [name, ...others] = await readdir(folder);
      assert.match(name, /^encke-server-0-\d+\.zip$/);
      assert.deepEqual(others, []);
    },
    { expected: /ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|WebSocket/ },
  ));

test('the server copies its accounts to another one', async () => {
  const copy = await Server.start();
  try {
    await as(
      'admin',
      async (page) => {
        const wait = (text) => page.getByText(text).first().waitFor();
        const save = async () => {
          await button(page, 'Save').click();
          await page.getByText('Unsaved changes').waitFor({ state: 'detached' });
        };
        await page.goto('/');
        await page.getByRole('link', { name: 'Replication' }).click();
        await button(page, 'Copy accounts to a server').click();
        await page.getByLabel('Name').fill('Cellar');
        await page.getByLabel('Address').fill(copy.url);
        await page.getByLabel('Administrator there').fill(ADMIN);
        await page.getByLabel('Password', { exact: true }).fill('wrong');
        await save();
        await wait('Nothing can be copied now');
        await wait('the name or the password is wrong');
        await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
        await page.getByRole('combobox', { name: 'What is deleted there' }).click();
        await page.getByRole('option', { name: 'Everything that is not here' }).click();
        await save();
        await wait('Up to date');
        const names = () => copy.call('/api/v1/admin/list-users');
        assert.deepEqual(await names(), await server.call('/api/v1/admin/list-users'));
        await server.addUser('berta');
        await until('the account to be there', async () => (await names()).includes('berta'));
        await button(page, 'Compare now').click();
        await wait('Up to date');
        await button(page, 'Remove').click();
        await save();
        await wait('Copied to no other server');
      },
      { expected: /ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|WebSocket/ },
    );
  } finally {
    await copy.stop();
  }
});

test('buckets that nobody uses are found over all servers, and deleted', async () => {
  const other = await Server.start();
  try {
    const made = await other.call('/api/v1/admin/storage/register-bucket');
    const buckets = async () => Object.keys(await other.call('/api/v1/admin/storage/list-buckets'));
    await as(
      'admin',
      async (page) => {
        const wait = (text) => page.getByText(text).first().waitFor();
        await page.goto('/cluster');
        await wait('The Constellation Role is switched off');
        await page.goto('/settings?tab=roles');
        await page.getByRole('switch', { name: 'Watch which buckets are used' }).click();
        await button(page, 'Add server').click();
        await page.getByLabel('Name').fill('Cellar');
        await page.getByLabel('Address').fill(other.url);
        await page.getByLabel('Administrator there').fill(ADMIN);
        await page.getByLabel('Password', { exact: true }).fill('wrong');
        const save = async () => {
          await button(page, 'Save').click();
          await page.getByText('Unsaved changes').waitFor({ state: 'detached' });
        };
        await save();
        await page.getByRole('link', { name: 'Report', exact: true }).click();
        await button(page, 'Report now').click();
        await wait('Nothing is deleted while this is so');
        await wait('the name or the password is wrong');
        await page.goto('/settings?tab=roles');
        await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
        await save();
        await page.goto('/cluster?show=unused');
        await button(page, 'Report now').click();
        await wait('All servers told everything');
        await wait(made.NewBucketID);
        assert.ok((await buckets()).includes(made.NewBucketID));
        await button(page, 'Delete unused buckets').click();
        const dialog = page.getByRole('dialog');
        await dialog.getByLabel("Type '127.0.0.1' to confirm").fill('127.0.0.1');
        await dialog.getByRole('button', { name: 'Delete unused buckets' }).click();
        // A new bucket may be about to get its vault.
        await wait('unused bucket was too new');
        assert.ok((await buckets()).includes(made.NewBucketID));
      },
      { expected: /ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|WebSocket/ },
    );
  } finally {
    await other.stop();
  }
});

test('an agent is ended from afar', () =>
  as('admin', async (page) => {
    await page.goto('/devices');
    await page.getByRole('button', { name: 'More for annas-laptop' }).click();
    await page.getByRole('menuitem', { name: 'End the agent' }).click();
    await until('the device to be gone', async () => {
      const live = await server.call('/api/v1/admin/dispatcher/list-active');
      return Object.keys(live).length === 0;
    });
    await page.getByText('No device').first().waitFor();
  }));
