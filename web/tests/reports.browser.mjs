// The path of a report: designed, saved, shared by code, pulled by somebody outside, deleted, refused.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { launchBrowser, openPage, Server, signIn } from './support.mjs';

let server;
let browser;

before(async () => {
  [server, browser] = await Promise.all([Server.start(), launchBrowser()]);
  await server.addUser('anna');
  await server.addUser('bert');
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

async function as(user, run, options) {
  const page = await openPage(browser, server, options);
  try {
    await signIn(page, user);
    await page.getByRole('navigation', { name: 'Pages' }).waitFor({ state: 'attached' });
    await run(page);
    assert.deepEqual(page.problems, []);
  } finally {
    await page.context().close();
  }
}

const openDesigner = async (page) => {
  await page.goto('/reports');
  await page.getByRole('button', { name: 'New report' }).click();
  await page.getByRole('table', { name: 'Preview' }).waitFor();
};

const choose = async (page, label, option) => {
  await page.getByRole('combobox', { name: label, exact: true }).click();
  await page.getByRole('option', { name: option, exact: true }).click();
};

const head = (page) =>
  page.getByRole('table', { name: 'Preview' }).getByRole('columnheader').allTextContents();

test('a report is designed, saved, shared by code, pulled, deleted and refused', () =>
  as('admin', async (page) => {
    await openDesigner(page);
    await choose(page, 'Template', 'Person Registrations');
    await page.getByLabel('Report name').fill('Horvat family');
    await page.getByLabel('Last name contains').fill('horvat');
    await page.getByLabel('Name of Last name').fill('Surname');
    await page.getByRole('button', { name: 'Remove Gender' }).click();
    await page.getByRole('button', { name: 'Move Last name up' }).click();
    await choose(page, 'Sort by another column', 'Date of birth');
    const preview = page.getByRole('table', { name: 'Preview' });
    await preview.getByRole('columnheader', { name: 'Surname' }).waitFor();
    await preview.getByRole('columnheader', { name: 'Gender' }).waitFor({ state: 'detached' });
    await page.getByRole('status').filter({ hasText: 'All' }).waitFor();
    assert.deepEqual((await head(page)).slice(0, 3), ['Person ID', 'Surname', 'First name']);
    for (const cell of await preview.locator('tbody tr td:nth-child(2)').allTextContents()) {
      assert.equal(cell, 'Horvat');
    }
    const shown = await preview.locator('tbody tr').count();
    assert.ok(shown > 0);
    await page.getByRole('button', { name: 'Save to My reports' }).click();
    await page.getByRole('link', { name: 'Horvat family' }).waitFor();

    await page.getByRole('button', { name: 'Options of Horvat family' }).click();
    await page.getByRole('menuitem', { name: 'Generate API code' }).click();
    const dialog = page.getByRole('dialog');
    const address = await dialog.getByLabel('Address to pull the rows from').inputValue();
    // Somebody without an account.
    const pulled = await (await fetch(address)).json();
    assert.equal(pulled.totalSize, shown);
    assert.deepEqual(pulled.columnNames.slice(0, 3), ['Person ID', 'Surname', 'First name']);
    const born = pulled.results.map((row) => row.dateOfBirth);
    assert.deepEqual(
      born,
      [...born].sort((a, b) => a - b),
    );
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });

    // Copied again later it is the same code, and the log tells of the pull.
    await page.getByRole('button', { name: 'Options of Horvat family' }).click();
    await page.getByRole('menuitem', { name: 'API code', exact: true }).click();
    assert.equal(await dialog.getByLabel('Address to pull the rows from').inputValue(), address);
    await dialog.getByRole('cell', { name: '127.0.0.1' }).waitFor();
    await dialog.getByRole('button', { name: 'Replace code' }).click();
    await page.waitForFunction(
      (old) => document.querySelector('[role=dialog] input[readonly]')?.value !== old,
      address,
    );
    assert.equal((await fetch(address)).status, 401);
    const newer = await dialog.getByLabel('Address to pull the rows from').inputValue();
    assert.equal((await fetch(newer)).status, 200);
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });

    await page.getByRole('button', { name: 'Options of Horvat family' }).click();
    const download = page.waitForEvent('download');
    await page.getByRole('menuitem', { name: 'Export as CSV' }).click();
    const file = path.join(server.folder, 'out.csv');
    await (await download).saveAs(file);
    const lines = (await readFile(file, 'utf8')).trim().split('\r\n');
    assert.equal(lines.length, shown + 1);
    assert.match(lines[0], /Person ID,Surname,First name/);
    await page.getByRole('button', { name: 'Options of Horvat family' }).click();
    const printed = page.waitForEvent('download');
    await page.getByRole('menuitem', { name: 'Export as PDF' }).click();
    const document = path.join(server.folder, 'out.pdf');
    assert.equal((await printed).suggestedFilename(), 'Horvat family.pdf');
    await (await printed).saveAs(document);
    assert.match(await readFile(document, 'latin1'), /^%PDF-1\.7[^]*%%EOF\n$/);

    await page.getByRole('button', { name: 'Options of Horvat family' }).click();
    await page.getByRole('menuitem', { name: 'Delete' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Delete report' }).click();
    await page.getByRole('link', { name: 'Horvat family' }).waitFor({ state: 'detached' });
    assert.equal((await fetch(newer)).status, 401);
  }));

test('rows are grouped and totalled', () =>
  as('admin', async (page) => {
    await openDesigner(page);
    await choose(page, 'Template', 'Matches');
    for (const name of ['Match ID', 'Kick-off', 'Match', 'Home team ID', 'Away team ID', 'Away team']) {
      await page.getByRole('button', { name: `Remove ${name}`, exact: true }).click();
    }
    await page.getByLabel('Group rows and total the numbers').check();
    await choose(page, 'Total of Home goals', 'Average');
    const preview = page.getByRole('table', { name: 'Preview' });
    await preview.getByRole('columnheader', { name: 'Home team' }).waitFor();
    assert.deepEqual(await head(page), ['Home team', 'Home goals']);
    await choose(page, 'Drawn as', 'Bars');
    const chart = page.getByRole('img', { name: 'Chart of Home goals by Home team' });
    await chart.waitFor();
    await page.getByLabel('Report name').fill('Goals at home');
    await page.getByRole('button', { name: 'Save to My reports' }).click();
    await page.getByRole('link', { name: 'Goals at home' }).click();
    // What was saved is there to be edited.
    await page.getByRole('heading', { name: 'Edit report' }).waitFor();
    assert.equal(await page.getByRole('combobox', { name: 'Total of Home goals' }).inputValue(), 'Average');
    const saved = await server.call('/api/encke/v1/reports/list');
    const report = saved.find((r) => r.Name === 'Goals at home').Report;
    assert.deepEqual(report.group, ['homeTeam']);
    await chart.waitFor();
    assert.deepEqual(report.chart, { kind: 'bar', label: 'homeTeam' });
    assert.deepEqual(report.columns, [{ key: 'homeTeam' }, { key: 'homeGoals', total: 'avg' }]);
  }));

test('a file is uploaded and reported on', () =>
  as('anna', async (page) => {
    await page.goto('/reports');
    const chooser = page.waitForEvent('filechooser');
    await page.getByRole('button', { name: 'Upload rows' }).click();
    await (await chooser).setFiles({
      name: 'stock.csv',
      mimeType: 'text/csv',
      buffer: Buffer.from('article,pieces\nScrew,120\nNail,7\n'),
    });
    await page.getByRole('table', { name: 'Preview' }).getByRole('cell', { name: 'Screw' }).waitFor();
    await page.getByRole('button', { name: 'Add filter' }).click();
    await page.getByLabel('Value', { exact: true }).fill('Nail');
    await page.getByRole('cell', { name: 'Screw' }).waitFor({ state: 'detached' });
    await page.getByRole('cell', { name: 'Nail' }).waitFor();
  }));

test('a long export tells how far it is and is stopped', () =>
  as('admin', async (page) => {
    const data = { kind: 'sample', size: 3_000_000, seed: 1 };
    const report = { name: 'Everybody', template: 1001, columns: ['personId', 'lastName'], data };
    await server.call('/api/encke/v1/reports/save', { Report: report });
    await page.goto('/reports');
    await page.getByRole('button', { name: 'Options of Everybody' }).click();
    await page.getByRole('menuitem', { name: 'Export as CSV' }).click();
    const dialog = page.getByRole('dialog', { name: 'Export Everybody' });
    await dialog.getByRole('status').filter({ hasText: /[1-9]/ }).waitFor();
    await dialog.getByRole('button', { name: 'Stop' }).click();
    await dialog.waitFor({ state: 'detached' });
  }));

test('data sources and templates are kept in the console', () =>
  as('admin', async (page) => {
    await page.goto('/reports');
    const chooser = page.waitForEvent('filechooser');
    await page.getByRole('button', { name: 'Upload rows' }).click();
    await (await chooser).setFiles({
      name: 'tools.csv',
      mimeType: 'text/csv',
      buffer: Buffer.from('tool,pieces\nHammer,12\nSaw,7\n'),
    });
    await page.getByRole('table', { name: 'Preview' }).getByRole('cell', { name: 'Hammer' }).waitFor();
    await page.goto('/reports');
    await page.getByRole('button', { name: 'Data sources' }).click();
    await page.getByRole('cell', { name: 'tools.csv' }).first().waitFor();
    await page.getByRole('button', { name: 'Edit tools' }).click();
    const dialog = page.getByRole('dialog');
    const text = dialog.getByLabel('Template as YAML');
    const yaml = await text.inputValue();
    assert.match(yaml, /name: tools/);
    await text.fill(yaml.replace('name: tools', 'name: Tool box').replace('table: tools', 'table: none'));
    await dialog.getByRole('button', { name: 'Check and save' }).click();
    await dialog.getByRole('alert').filter({ hasText: "no table 'none'" }).waitFor();
    await text.fill(yaml.replace('name: tools', 'name: Tool box'));
    await dialog.getByRole('button', { name: 'Check and save' }).click();
    await dialog.waitFor({ state: 'detached' });
    await page.getByRole('cell', { name: 'Tool box', exact: true }).waitFor();
    const saved = page.waitForEvent('download');
    await page.getByRole('button', { name: 'Save Tool box as YAML' }).click();
    assert.equal((await saved).suggestedFilename(), 'Tool box.yaml');

    // A database that does not answer is refused in its own words, and nothing is kept.
    await page.getByRole('button', { name: 'Add data source' }).click();
    await dialog.getByLabel('Name').fill('Club');
    await dialog.getByLabel('Host').fill('127.0.0.1');
    await dialog.getByLabel('Port').fill('1');
    await dialog.getByLabel('Database').fill('club');
    await dialog.getByLabel('User').fill('reader');
    await dialog.getByRole('button', { name: 'Save' }).click();
    await dialog.getByRole('alert').waitFor();
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    await page.getByRole('button', { name: 'Delete tools.csv' }).click();
    await dialog.getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('cell', { name: 'tools.csv' }).first().waitFor({ state: 'detached' });
    assert.equal((await server.call('/api/encke/v1/reports/list-sources')).length, 0);
  }));

test('a shared report shows the rows of the one who looks', () =>
  as('admin', async (page) => {
    const report = { name: 'Our accounts', template: 101, columns: ['account'] };
    await server.call('/api/encke/v1/reports/save', { Report: report });
    await page.goto('/reports');
    await page.getByRole('button', { name: 'Options of Our accounts' }).click();
    await page.getByRole('menuitem', { name: 'Share' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Accounts').fill('bert');
    await page.keyboard.press('Enter');
    await dialog.getByRole('button', { name: 'Share' }).click();
    await dialog.waitFor({ state: 'detached' });
    await as('bert', async (his) => {
      await his.goto('/reports');
      await his.getByText('shared by admin').waitFor();
      await his.getByRole('button', { name: 'Options of Our accounts' }).click();
      const download = his.waitForEvent('download');
      await his.getByRole('menuitem', { name: 'Export as CSV' }).click();
      const file = path.join(server.folder, 'his.csv');
      await (await download).saveAs(file);
      assert.equal(await readFile(file, 'utf8'), '\ufeffAccount\r\nbert\r\n');
    });
  }));

test('the designer works on a phone', () =>
  as(
    'admin',
    async (page) => {
      await openDesigner(page);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
      assert.equal(wide, false, 'the page scrolls sideways');
    },
    { viewport: { width: 390, height: 844 } },
  ));
