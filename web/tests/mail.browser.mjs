// E-mail and webhooks by the console's forms, with a real mail server behind.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { actAs, stage, until } from './support.mjs';

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '../..');
let server;
let browser;
let smtp;
let port;
let folder;

stage(async (...both) => {
  [server, browser] = both;
  folder = await mkdtemp(path.join(tmpdir(), 'encke-mail-'));
  const programs = execFileSync(path.join(root, 'scripts/test-services.sh'), { encoding: 'utf8' }).trim();
  const script = path.join(root, 'crates/encke/tests/support/services.py');
  const args = [script, 'smtp', folder, 'plain', '', '', '', '0'];
  smtp = spawn(path.join(programs, 'python'), args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const [line] = await once(smtp.stdout, 'data');
  port = new URL(JSON.parse(line).url).port;
  await server.addUser('anna');
  await server.edit('anna', (profile) => {
    profile.Emails = ['anna@example.com'];
    profile.SendEmailReports = true;
  });
});

after(async () => {
  smtp?.kill();
  await rm(folder, { recursive: true, force: true });
});

const as = (user, run, options) => actAs(browser, server, user, run, options);
const button = (page, name) => page.getByRole('button', { name, exact: true });

/** The mail that arrived at an address. */
const mailTo = (address) =>
  until(`a mail to ${address}`, async () => {
    for (const name of await readdir(folder)) {
      if (!name.endsWith('.json')) continue;
      const mail = JSON.parse(await readFile(path.join(folder, name), 'utf8'));
      if (mail.to[0] === address) return mail.data;
    }
    return null;
  });

async function choose(page, label, option) {
  await page.getByRole('combobox', { name: label, exact: true }).click();
  await page.getByRole('option', { name: option, exact: true }).click();
}

test('an administrator sets up e-mail, tries it, and writes to everybody', () =>
  as('admin', async (page) => {
    await page.goto('/settings?tab=mail');
    await choose(page, 'Sent by', 'A mail server (STARTTLS)');
    await page.getByLabel('Sender', { exact: true }).fill('Our Backup');
    await page.getByLabel('Address of the sender').fill('backup@example.com');
    await page.getByLabel('Server', { exact: true }).fill('localhost');
    await page.getByLabel('Port').fill(port);
    await page.getByLabel('Accept an unencrypted connection').check();
    await page.getByLabel('Try these settings').fill('try@example.com');
    await button(page, 'Send a test e-mail').click();
    await page.getByText('The mail server took it over.').waitFor();
    assert.match(await mailTo('try@example.com'), /From: "?Our Backup"? <backup@example.com>/);
    await button(page, 'Save').click();
    await button(page, 'Save').waitFor({ state: 'detached' });
    const stored = await server.call('/api/v1/admin/meta/email-options/get');
    assert.deepEqual([stored.SMTPHost, stored.SMTPPort], ['localhost', Number(port)]);
    // A report for the administrators, sent before it is stored.
    await button(page, 'Add report').click();
    await page.getByRole('combobox', { name: 'Recipients' }).fill('chief@example.com');
    await page.keyboard.press('Enter');
    await button(page, 'Send it now').click();
    assert.match(await mailTo('chief@example.com'), /Summary of backups/);
    await page.getByRole('cell', { name: 'chief@example.com' }).waitFor();
    await page.goto('/news');
    await page.getByLabel('Subject').fill('Maintenance');
    await page.getByLabel('Text of the e-mail').fill('We are away on Sunday.');
    await button(page, 'Send to all users').click();
    await page.getByText('Handed over for delivery.').waitFor();
    assert.match(await mailTo('anna@example.com'), /We are away on Sunday\./);
  }));

test('a report of an account is looked at before it is due', () =>
  as('admin', async (page) => {
    await page.goto('/accounts/anna?tab=emails');
    await page.getByLabel('Own reports for this address').check();
    await choose(page, 'Report', 'Summary of backups');
    await button(page, 'Preview').click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('There are no jobs in this time.').waitFor();
    await dialog.getByText('anna@example.com').waitFor();
  }));

test('a webhook is added and seen to fare well', async () => {
  let told;
  const arrived = new Promise((resolve) => {
    told = resolve;
  });
  const receiver = createServer((request, response) => {
    request.resume();
    response.end();
    if (request.headers['x-encke-signature']) told(request.headers);
  });
  receiver.listen(0, '127.0.0.1');
  await once(receiver, 'listening');
  try {
    await as('admin', async (page) => {
      await page.goto('/settings?tab=webhooks');
      await page.getByLabel('Name of the webhook').fill('monitor');
      await button(page, 'Add webhook').click();
      await page.getByLabel('Address').fill(`http://127.0.0.1:${receiver.address().port}/`);
      await page.getByLabel('Headers').fill('X-Token: secret');
      await button(page, 'Save').click();
      await button(page, 'Save').waitFor({ state: 'detached' });
      assert.equal((await arrived)['x-token'], 'secret');
      await page.reload();
      await button(page, 'Copy the key of monitor').waitFor();
      await page.getByText('No failure').waitFor();
      assert.equal(await page.getByLabel('Headers').inputValue(), 'X-Token: ********');
    });
  } finally {
    receiver.close();
  }
});
