// Making and changing everything by hand: what the console saves is what the API then answers.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { actAs, openPage, PASSWORD, signIn, stage, until, watched } from './support.mjs';

let server;
let browser;

stage(async (...both) => {
  [server, browser] = both;
  await server.addUser('bert');
});

// Saved settings start the server anew, and the browser notes that it is away.
const away = /ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|WebSocket/;
const as = (user, run, options) =>
  actAs(browser, server, user, run, options?.restarts ? { expected: away } : {});

const profileOf = async (name) =>
  (await server.call('/api/v1/admin/get-user-profile-and-hash', { TargetUser: name })).Profile;

const button = (page, name) => page.getByRole('button', { name, exact: true });
const choose = async (page, label, option) => {
  await page.getByRole('combobox', { name: label }).click();
  await page.getByRole('option', { name: option, exact: true }).click();
};
const save = async (page) => {
  await button(page, 'Save').click();
  await page.getByText('Unsaved changes').waitFor({ state: 'detached' });
};

test('from a new account to its first backup, all by the console', () =>
  as('admin', async (page) => {
    await page.goto('/accounts?dialog=new');
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Account name').fill('clinic');
    await dialog.getByLabel('Display name').fill('The clinic');
    await dialog.getByLabel('Password', { exact: true }).fill(PASSWORD);
    await dialog.getByLabel('E-mail address').fill('it@clinic.example');
    await dialog.getByRole('button', { name: 'Add', exact: true }).click();
    await page.waitForURL('**/accounts/clinic');
    await page.getByText('Register a device').waitFor();

    // The device takes the command's token.
    await page.getByRole('link', { name: 'How' }).click();
    await page.getByLabel('Password of the account').fill(PASSWORD);
    await button(page, 'Make a token').click();
    const command = await page.getByText('--token').textContent();
    const folder = await server.deviceByToken(/--token (\S+)/.exec(command)[1], 'reception');
    const files = path.join(folder, 'files');
    await mkdir(path.join(files, 'cache'), { recursive: true });
    for (const name of ['a.txt', 'b.txt', 'cache/c.tmp']) await writeFile(path.join(files, name), name);
    await page.goto('/accounts/clinic?tab=devices');
    await page.getByText('On line', { exact: true }).waitFor();

    // A vault in this server's storage.
    await page.getByRole('link', { name: 'Add Storage Vault' }).click();
    await page.getByText('A new bucket in the Storage Role here').click();
    await page.getByText('Storage of this server').waitFor();

    // An item: the folder is found on the device itself, one below it is left out.
    await page.getByRole('link', { name: 'Add Protected Item' }).click();
    await page.getByLabel('Name', { exact: true }).fill('Patients');
    for (const name of files.split('/').filter(Boolean)) {
      const last = name === 'files';
      if (last) await page.getByRole('checkbox', { name, exact: true }).check();
      await button(page, `Open ${name}`).last().click();
    }
    await page.getByRole('checkbox', { name: 'cache', exact: true }).uncheck();
    await button(page, 'Next').click();
    await choose(page, 'How often', 'Weekly');
    await choose(page, 'Day', 'Tuesday');
    await page.getByLabel('At', { exact: true }).fill('03:30');
    await page.getByText('Tuesday at 03:30').first().waitFor();
    await button(page, 'Next').click();
    await page.getByLabel('Own retention in Storage of this server').check();
    await page.getByText('Keep only some backups').click();
    await button(page, 'Save').click();
    await page.getByRole('link', { name: 'Patients' }).waitFor();

    const profile = await profileOf('clinic');
    const [id, item] = Object.entries(profile.Sources)[0];
    assert.equal(item.EngineProps.INCLUDE1, files);
    assert.equal(item.EngineProps.EXCLUDE1, path.join(files, 'cache'));
    const [vault] = Object.keys(profile.Destinations);
    assert.equal(item.OverrideDestinationRetention[vault].Mode, 802);
    assert.equal(item.OverrideDestinationRetention[vault].Ranges.length, 3);
    const [rule] = Object.values(profile.BackupRules);
    assert.deepEqual([rule.Source, rule.Destination], [id, vault]);
    assert.equal(rule.Schedules[0].FrequencyType, 8013);
    assert.equal(rule.Schedules[0].SecondsPast, 2 * 86_400 + 3.5 * 3600);
    assert.deepEqual([profile.AccountName, profile.Emails], ['The clinic', ['it@clinic.example']]);

    await button(page, 'Back up').click();
    await page.getByRole('dialog').getByRole('button', { name: 'Start backup' }).click();
    await page.waitForURL('**/jobs/*');
    await page.locator('[data-status="5000"]').first().waitFor();
    const job = await server.call('/api/v1/admin/get-job-properties', {
      JobID: new URL(page.url()).pathname.split('/').at(-1),
    });
    assert.equal(job.TotalFiles, 2, 'the folder left out was not backed up');
  }));

test('vaults at S3 and at a path are added, changed and deleted by typing their names', () =>
  as('admin', async (page) => {
    await page.goto('/accounts/bert/vaults/new/edit?where=1000');
    await page.getByLabel('Name', { exact: true }).fill('Cloud');
    await page.getByLabel('Server').fill('s3.example.org');
    await page.getByLabel('Bucket', { exact: true }).fill('backups');
    await page.getByLabel('Access key').fill('KEY');
    await page.getByLabel('Secret key').fill('SECRET');
    await page.getByLabel('Limit the stored data').check();
    await page.getByLabel('Limit', { exact: true }).fill('10');
    await button(page, 'Save').click();
    await page.getByRole('link', { name: 'Cloud' }).waitFor();
    const find = async (name) =>
      Object.values((await profileOf('bert')).Destinations).find((v) => v.Description === name);
    const cloud = await find('Cloud');
    assert.deepEqual(
      [cloud.DestinationType, cloud.S3Server, cloud.S3BucketName],
      [1000, 's3.example.org', 'backups'],
    );
    assert.deepEqual([cloud.S3AccessKey, cloud.S3SecretKey, cloud.S3UsesTLS], ['KEY', 'SECRET', true]);
    assert.deepEqual([cloud.StorageLimitEnabled, cloud.StorageLimitBytes], [true, 10 * 1024 ** 3]);

    await page.goto('/accounts/bert/vaults/new/edit?where=1002');
    await page.getByLabel('Folder on the device').fill('/mnt/usb');
    await button(page, 'Save').click();
    await page.getByRole('link', { name: 'Local path' }).waitFor();
    assert.equal((await find('Local path')).LocalcopyPath, '/mnt/usb');

    await button(page, 'More for Cloud').click();
    await page.getByRole('menuitem', { name: 'Edit' }).click();
    await page.getByText('Keep only some backups').click();
    await button(page, 'Save').click();
    await page.getByRole('link', { name: 'Cloud' }).waitFor();
    assert.equal((await find('Cloud')).DefaultRetention.Mode, 802);

    await button(page, 'More for Cloud').click();
    await page.getByRole('menuitem', { name: 'Delete' }).click();
    const dialog = page.getByRole('dialog');
    assert.equal(await dialog.getByRole('button', { name: 'Delete' }).isDisabled(), true);
    await dialog.getByRole('textbox').fill('Cloud');
    await dialog.getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('link', { name: 'Cloud' }).waitFor({ state: 'detached' });
    assert.equal(await find('Cloud'), undefined);
  }));

test("an account's settings and e-mail reports are changed, beside somebody else's change", () =>
  as('admin', async (page) => {
    await page.goto('/accounts/bert?tab=settings');
    await page.getByLabel('Display name').fill('Bert Huber');
    await page.getByLabel('Most devices').fill('3');
    await server.edit('bert', (profile) => {
      profile.Emails = ['elsewhere@example.org'];
    });
    await save(page);
    let profile = await profileOf('bert');
    assert.deepEqual(
      [profile.AccountName, profile.MaximumDevices, profile.Emails],
      ['Bert Huber', 3, ['elsewhere@example.org']],
    );

    await page.getByRole('tab', { name: 'E-mail reports' }).click();
    const on = page.getByLabel('Send e-mail reports');
    if (!(await on.isChecked())) await on.check();
    await page.getByLabel('E-mail address').fill('boss@example.org');
    await button(page, 'Add address').click();
    await page.getByLabel('Own reports for this address').last().check();
    await choose(page, 'Report', 'Summary of backups');
    await page.getByLabel('Only some jobs').check();
    await save(page);
    profile = await profileOf('bert');
    const [report] = profile.OverrideEmailSettings['boss@example.org'].Reports;
    assert.equal(report.ReportType, 1);
    assert.equal(report.SummaryFrequency[0].FrequencyType, 8011);
    assert.equal(report.Filter.ClauseChildren[0].RuleField, 'BackupJobDetail.Status');
  }));

test('the document of an account is checked before it is saved', () =>
  as('admin', async (page) => {
    await page.goto('/accounts/bert?tab=profile');
    await page.getByLabel('Edit', { exact: true }).check();
    const area = page.getByRole('textbox', { name: 'Document' });
    const text = await area.inputValue();
    await area.fill(text.replace('"MaximumDevices": 3', '"MaximumDevices": "many"'));
    await button(page, 'Check and save').click();
    await page.getByRole('alert').getByText('MaximumDevices').waitFor();
    await area.fill(text.replace('"MaximumDevices": 3', '"MaximumDevices": 7'));
    await button(page, 'Check and save').click();
    await area.waitFor({ state: 'detached' });
    assert.equal((await profileOf('bert')).MaximumDevices, 7);
  }));

test('an account is suspended, gets a new password and is deleted', () =>
  as('admin', async (page) => {
    await server.addUser('gone');
    await page.goto('/accounts/gone');
    await button(page, 'Actions').click();
    await page.getByRole('menuitem', { name: 'Suspend' }).click();
    await page.getByText('Suspended').waitFor();
    // It shows before the server has it.
    await until('the suspension', async () => (await profileOf('gone')).IsSuspended);
    await button(page, 'Actions').click();
    await page.getByRole('menuitem', { name: 'Lift the suspension' }).click();
    await until('the suspension to end', async () => !(await profileOf('gone')).IsSuspended);

    await button(page, 'Actions').click();
    await page.getByRole('menuitem', { name: 'Reset password' }).click();
    const dialog = page.getByRole('dialog');
    if (await dialog.getByLabel('Present password').count()) {
      await dialog.getByLabel('Present password').fill(PASSWORD);
    }
    await dialog.getByLabel('New password').fill('a new password');
    await dialog.getByRole('button', { name: 'Reset password' }).click();
    await button(dialog, 'Done').click();
    await server.post('/api/v1/user/web/session/start', {
      Username: 'gone',
      AuthType: 'Password',
      Password: 'a new password',
    });

    await button(page, 'Actions').click();
    await page.getByRole('menuitem', { name: 'Delete account' }).click();
    await page.getByRole('dialog').getByRole('textbox').fill('gone');
    await page.getByRole('dialog').getByRole('button', { name: 'Delete account' }).click();
    await page.waitForURL('**/accounts');
    assert.equal((await server.call('/api/v1/admin/list-users')).includes('gone'), false);
  }));

test('a policy is made, given to an account and enforced', () =>
  as('admin', async (page) => {
    await page.goto('/policies/new');
    await page.getByLabel('Name', { exact: true }).fill('Strict');
    await choose(page, 'Skip a backup while one is running', 'On, enforced');
    await page.getByLabel('Delete Storage Vaults').uncheck();
    await page.getByText('Keep only some backups').click();
    await page.getByLabel('Enforce it on every vault').check();
    await button(page, 'Save').click();
    await page.waitForURL(/policies\/[0-9a-f-]{36}$/);
    const id = new URL(page.url()).pathname.split('/').at(-1);
    const { Policy } = await server.call('/api/v1/admin/policies/get', { PolicyID: id });
    assert.equal(Policy.Policy.ModeScheduleSkipAlreadyRunning, 3);
    assert.equal(Policy.Policy.PreventDeleteStorageVault, true);
    assert.equal(Policy.Policy.EnforceStorageVaultRetention, true);

    await page.goto('/accounts/bert?tab=settings');
    await choose(page, 'Policy', 'Strict');
    await save(page);
    const profile = await profileOf('bert');
    assert.equal(profile.PolicyID, id);
    assert.equal(Object.values(profile.Destinations)[0].DefaultRetention.Mode, 802);
  }));

test('a device that waits in the lobby gets an account', () =>
  as('admin', async (page) => {
    await page.goto('/devices?tab=lobby');
    await page.getByText('Nobody waits').waitFor();
    await server.deviceInLobby('front-desk');
    await page.getByText('front-desk').waitFor();
    await button(page, 'Register').click();
    await choose(page, 'Account', 'bert');
    await page.getByRole('dialog').getByLabel('Password of the account').fill(PASSWORD);
    await button(page.getByRole('dialog'), 'Register').click();
    await page.waitForURL('**/accounts/bert?tab=devices');
    await page.getByText('front-desk').waitFor();
    await button(page, 'More for front-desk').click();
    await page.getByRole('menuitem', { name: 'Revoke' }).click();
    await page.getByRole('dialog').getByRole('textbox').fill('front-desk');
    await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
    await page.getByText('No devices yet').waitFor();
    assert.deepEqual((await profileOf('bert')).Devices, {});
  }));

test('groups, tenants, administrators and news are made', () =>
  as(
    'admin',
    async (page) => {
      await page.goto('/groups?dialog=new');
      await page.getByRole('dialog').getByLabel('Name').fill('Hospitals');
      await page.getByRole('dialog').getByRole('combobox', { name: 'Accounts' }).click();
      await page.getByRole('option', { name: 'bert', exact: true }).click();
      await page.keyboard.press('Escape');
      await button(page.getByRole('dialog'), 'Save').click();
      await page.getByRole('dialog').waitFor({ state: 'detached' });
      await page.getByRole('link', { name: 'Hospitals' }).waitFor();
      assert.notEqual((await profileOf('bert')).GroupID, '');

      await page.goto('/tenants?dialog=new');
      await page.getByRole('dialog').getByLabel('Name', { exact: true }).fill('North');
      await page.getByRole('dialog').getByLabel('Host names').fill('north.localhost');
      await page.keyboard.press('Enter');
      await button(page.getByRole('dialog'), 'Add').click();
      await page.waitForURL(/tenants\/[^/?]+$/);
      await page.getByLabel('Name of the service').fill('North Backup');
      await page.getByLabel('Colour of the top bar').fill('#0a5c36');
      await save(page);
      const tenants = await server.call('/api/v1/admin/organization/list');
      const [tenant] = Object.values(tenants);
      assert.deepEqual(
        [tenant.Name, tenant.Hosts, tenant.Branding.BrandName],
        ['North', ['north.localhost'], 'North Backup'],
      );

      // Who comes by the tenant's name sees its brand before signing in.
      const visitor = await openPage(browser, { url: server.url.replace('127.0.0.1', 'north.localhost') });
      await visitor.goto('/');
      await visitor.getByRole('heading', { name: 'North Backup' }).waitFor();
      await visitor.context().close();

      await page.goto('/admins?dialog=new');
      await page.getByRole('dialog').getByLabel('User name').fill('second');
      await page.getByRole('dialog').getByLabel('Password', { exact: true }).fill(PASSWORD);
      await button(page.getByRole('dialog'), 'Add').click();
      await page.getByRole('link', { name: 'second' }).click();
      await page.getByLabel('Restart and stop the server').uncheck();
      await save(page);
      const admins = await server.call('/api/v1/admin/admin-user/list');
      assert.equal(admins.find((a) => a.Username === 'second').Permissions.PreventServerShutdown, true);

      await page.goto('/news');
      await page.getByLabel('A message to all users').fill('We move on Sunday');
      await button(page, 'Publish').click();
      await page.getByText('We move on Sunday').waitFor();
      await button(page, 'Take back').click();
      await page.getByRole('dialog').getByRole('button', { name: 'Take back' }).click();
      await page.getByText('No news.').waitFor();
    },
    { restarts: true },
  ));

test('server settings are changed by form, and branding shows at once', () =>
  as(
    'admin',
    async (page) => {
      await page.goto('/settings');
      await page.getByLabel('Sign out after idle time').fill('2');
      await page.getByLabel('Failures until then').fill('12');
      await save(page);
      let config = await server.call('/api/v1/admin/meta/server-config/get');
      assert.equal(config.SessionSettings.ExpiredInSeconds, 7200);
      assert.equal(config.LoginProtection.FailureThreshold, 12);
      await page.getByRole('tab', { name: 'Branding' }).click();
      await page.getByLabel('Name of the service').fill('Safe Harbour');
      await save(page);
      await page.getByRole('banner').getByText('Safe Harbour').waitFor();
      config = await server.call('/api/v1/admin/meta/server-config/get');
      assert.equal(config.Branding.BrandName, 'Safe Harbour');
    },
    { restarts: true },
  ));

test('storage: a bucket and a template are made, and a template makes a vault', () =>
  as('admin', async (page) => {
    await page.goto('/storage');
    await button(page, 'Add bucket').click();
    await page.getByText('The key is shown only now.').waitFor();
    await button(page, 'Done').click();
    await page.goto('/storage?tab=templates&dialog=new');
    await page.getByRole('dialog').getByLabel('Name').fill('Standard storage');
    await button(page.getByRole('dialog'), 'Save').click();
    await page.getByText('Standard storage').waitFor();
    const templates = await server.call('/api/v1/admin/meta/remote-storage-vault/get');
    assert.equal(templates[0].Description, 'Standard storage');
    await page.goto('/accounts/bert/vaults/new/edit');
    await page.getByText('From a storage template').click();
    await page.waitForURL('**/accounts/bert?tab=vaults');
    await until('the vault', async () =>
      Object.values((await profileOf('bert')).Destinations).some((v) => v.DestinationType === 1003),
    );
  }));

test('jobs are found by the search builder, and lists are saved as CSV', () =>
  as('admin', async (page) => {
    await page.goto('/jobs');
    await page.locator('[data-status="5000"]').first().waitFor();
    await button(page, 'Search builder').click();
    await page.getByLabel('Value').fill('nobody');
    await button(page, 'Find').click();
    await page.getByText('No jobs yet').waitFor();
    await page.getByLabel('Value').fill('clin');
    await button(page, 'Find').click();
    await page.locator('[data-status="5000"]').first().waitFor();
    // The search is in the address.
    await page.reload();
    await page.locator('[data-status="5000"]').first().waitFor();
    const save = async (kind) => {
      await button(page, 'Save or copy').click();
      const item = page.getByRole('menuitem', { name: kind });
      return (await Promise.all([page.waitForEvent('download'), item.click()]))[0];
    };
    const sheet = await save('Save as XLSX');
    assert.equal(sheet.suggestedFilename(), 'jobs.xlsx');
    assert.match(await readFile(await sheet.path(), 'latin1'), /^PK.*>Success</s);
    const saved = await save('Save as CSV');
    const text = await readFile(await saved.path(), 'utf8');
    assert.match(text.split('\r\n')[0], /Status,Kind,Account/);
    assert.match(text.split('\r\n')[1], /Success,Backup,clinic/);
    await button(page, 'Columns').click();
    await page.getByRole('checkbox', { name: 'Job ID' }).check();
    await page.getByRole('columnheader', { name: 'Job ID' }).waitFor();
  }));

test('an end user keeps items, e-mail and codes without an administrator', async () => {
  await as('clinic', async (page) => {
    await page.getByRole('link', { name: 'Patients' }).click();
    await page.getByLabel('Name', { exact: true }).fill('All patients');
    await button(page, 'Save').click();
    await page.getByRole('link', { name: 'All patients' }).waitFor();
    assert.equal(Object.values((await profileOf('clinic')).Sources)[0].Description, 'All patients');
    await page.goto('/me');
    await button(page, 'Set up').click();
    await button(page, 'Make a secret').click();
    const secret = await page.getByLabel('Copy the secret').first().textContent();
    await page.getByLabel('Code', { exact: true }).fill(totp(secret.trim(), -30));
    await button(page, 'Switch on').click();
    await page.getByText('Make a new secret').waitFor();
  });
  const profile = await profileOf('clinic');
  assert.deepEqual([profile.AllowPasswordLogin, profile.AllowPasswordAndTOTPLogin], [false, true]);
  await as('admin', async (page) => {
    await page.goto('/accounts/clinic?tab=settings');
    await button(page, 'Take one-time codes away').click();
    await page.getByRole('dialog').getByRole('button', { name: 'Take one-time codes away' }).click();
    await until('codes to be gone', async () => (await profileOf('clinic')).AllowPasswordLogin);
  });
});

test('whoever must choose a new password chooses it before anything else', async () => {
  await server.call('/api/v1/admin/add-user', {
    TargetUser: 'fresh',
    TargetPassword: PASSWORD,
    RequirePasswordChange: 1,
    StoreRecoveryCode: 1,
  });
  await as('fresh', async (page) => {
    await page.getByRole('heading', { name: 'Choose a new password' }).waitFor();
    await page.getByLabel('Present password').fill(PASSWORD);
    await page.getByLabel('New password', { exact: true }).fill('only mine now');
    await page.getByLabel('New password again').fill('only mine now');
    await button(page, 'Change password').click();
    await page.getByRole('heading', { name: 'Welcome, fresh' }).waitFor();
  });
  assert.equal((await profileOf('fresh')).RequirePasswordChange, false);
});

test('an administrator adds a security key and signs in with it', async () => {
  // Keys are bound to names, not to addresses.
  const named = { ...server, url: server.url.replace('127.0.0.1', 'localhost') };
  const page = await openPage(browser, named);
  // One secure context more that browsers grant: the machine itself, by name.
  await watched(page, async () => {
    const cdp = await page.context().newCDPSession(page);
    await cdp.send('WebAuthn.enable');
    await cdp.send('WebAuthn.addVirtualAuthenticator', {
      options: {
        protocol: 'ctap2',
        transport: 'usb',
        hasResidentKey: false,
        hasUserVerification: true,
        isUserVerified: true,
        automaticPresenceSimulation: true,
      },
    });
    await signIn(page, 'second');
    await page.getByRole('heading', { name: 'Home' }).waitFor();
    await page.goto('/me');
    await button(page, 'Add security key').click();
    await page.getByText('Added').waitFor();
    const way = async (name, on) => {
      await page.getByLabel(name).click();
      await page
        .locator(`input:enabled${on ? ':checked' : ':not(:checked)'}`)
        .and(page.getByLabel(name))
        .waitFor();
    };
    await way('Password and security key', true);
    await way('The password alone is enough', false);
    await until('the password not to be enough', async () => {
      const admins = await server.call('/api/v1/admin/admin-user/list');
      return admins.find((a) => a.Username === 'second').AllowPasswordLogin === false;
    });
    await button(page, 'second').click();
    await page.getByRole('menuitem', { name: 'Sign out' }).click();
    await page.getByLabel('User name').fill('second');
    await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
    await button(page, 'Sign in').click();
    await button(page, 'Use a security key').click();
    await page.getByRole('heading', { name: 'Home' }).waitFor();
  });
  await page.context().close();
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
