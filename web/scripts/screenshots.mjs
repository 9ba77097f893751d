// Takes pictures of every page into a folder: light, dark, phone, and phone in the dark, or only the looks that are named.
// `npm run screenshots -- FOLDER [LOOK…]`
import { randomBytes } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { launchBrowser, openPage, Server, signIn } from '../tests/support.mjs';

const [target, ...wanted] = process.argv.slice(2);
if (!target) {
  console.error('usage: npm run screenshots -- FOLDER [LOOK...]');
  process.exit(2);
}
await mkdir(target, { recursive: true });

const LOOKS = {
  light: { colorScheme: 'light', viewport: { width: 1280, height: 800 } },
  'phone-dark': {
    colorScheme: 'dark',
    viewport: { width: 390, height: 844 },
    isMobile: true,
    hasTouch: true,
  },
  dark: { colorScheme: 'dark', viewport: { width: 1280, height: 800 } },
  phone: { colorScheme: 'light', viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true },
};

const server = await Server.start();
const browser = await launchBrowser();
try {
  for (const name of ['anna', 'bert.huber', 'clinic-east', 'dora', 'studio.north'])
    await server.addUser(name);
  const files = Object.fromEntries(
    Array.from({ length: 60 }, (_, i) => [
      `folder ${i % 4}/document ${i}.txt`,
      `${i}\n`.repeat(500 * (i + 1)),
    ]),
  );
  const device = await server.addDevice('anna', { device: 'annas-laptop', files });
  await server.addDevice('clinic-east', { device: 'reception', files: { 'patients.csv': 'a;b\n' } });
  const job = await server.backup(device);
  const [{ Snapshot: older }] = (
    await server.call('/api/v1/admin/dispatcher/request-vault-snapshots', {
      TargetID: device.connection,
      Destination: device.vault,
    })
  ).Snapshots;
  await writeFile(path.join(device.source, 'folder 1/new letter.txt'), 'Dear comet,\n'.repeat(300));
  await writeFile(path.join(device.source, 'folder 2/document 2.txt'), 'changed\n');
  await rm(path.join(device.source, 'folder 3/document 3.txt'));
  await server.backup(device);
  const { ReportID } = await server.call('/api/encke/v1/reports/save-sample', { Size: 185, Seed: 1 });
  const saveReport = async (Report) => (await server.call('/api/encke/v1/reports/save', { Report })).ReportID;
  const drawn = await saveReport({
    name: 'People of each club',
    template: 1001,
    columns: [{ key: 'orgName' }, { key: 'personId', total: 'count' }, { key: 'height', total: 'avg' }],
    group: ['orgName'],
    chart: { kind: 'bar', label: 'orgName' },
  });
  const pivoted = await saveReport({
    name: 'Levels of each nation',
    template: 1001,
    columns: [{ key: 'nationality' }],
    group: ['nationality'],
    pivot: { column: 'level', value: 'personId', total: 'count' },
  });
  await server.edit('anna', (profile) => {
    profile.AccountName = 'Anna Ash';
    profile.Emails = ['anna@example.org'];
    profile.SendEmailReports = true;
  });
  for (const user of ['bert.huber', 'studio.north']) {
    await server.addDevice(user, { device: `${user.replace('.', '-')}-pc`, files: { 'one.txt': 'one\n' } });
  }

  await server.deviceInLobby('front-desk');
  // A job that runs as long as the pictures are taken, since it may send so little.
  const busy = await server.addDevice('clinic-east', {
    device: 'archive',
    files: Object.fromEntries(
      Array.from({ length: 40 }, (_, i) => [`scan ${i}.raw`, randomBytes(2 ** 19).toString('base64')]),
    ),
    vault: 'clinic-archive',
  });
  await server.edit('clinic-east', (profile) => {
    profile.BackupRules[busy.rule].LimitVaultSpeedBps = 20_000;
  });

  const PolicyID = '0f0e3c4e-7a0b-4a51-9a53-3d3a3a1b2c4d';
  await server.call('/api/v1/admin/policies/set', {
    PolicyID,
    Policy: {
      Description: 'Offices',
      DefaultUserPolicy: true,
      Policy: { ModeScheduleSkipAlreadyRunning: 3 },
    },
  });
  await server.call('/api/v1/admin/policies/set', {
    PolicyID,
    Policy: {
      Description: 'Offices and shops',
      DefaultUserPolicy: true,
      Policy: { PreventDeleteStorageVault: true },
    },
  });
  await server.call('/api/v1/admin/user-groups/new', { Name: 'Hospitals' });
  const [bucket] = Object.keys(await server.call('/api/v1/admin/storage/list-buckets'));
  await server.call('/api/v1/admin/squota/set-with-hash', {
    SharedStorageQuotaID: PolicyID,
    SharedStorageQuota: { Description: 'Branches', OrganizationID: '', LimitBytes: 2 ** 40 },
  });
  const { ID: tenant } = await server.call('/api/v1/admin/organization/set', {
    Organization: { Name: 'North GmbH', Hosts: ['backup.north.example'] },
  });
  await server.call('/api/v1/admin/admin-user/new', {
    TargetUser: 'second',
    TargetPassword: 'something long',
  });
  await server.call('/api/v1/admin/news/submit', {
    NewsContent: 'Maintenance on Sunday: https://status.example.org',
  });

  // The device has heard of its limit by now.
  const { JobID: running } = await server.call('/api/v1/admin/dispatcher/run-backup', {
    TargetID: busy.connection,
    BackupRule: busy.rule,
  });

  const folder = `/accounts/anna/vaults/${device.vault}`;
  const pages = {
    home: ['/', 'Backups by result'],
    'home-week': ['/?day=7', 'Backups by result'],
    accounts: ['/accounts', 'studio.north'],
    'accounts-add': ['/accounts?dialog=new', 'Display name'],
    account: ['/accounts/anna', 'Documents of annas-laptop'],
    'account-vaults': ['/accounts/anna?tab=vaults', 'Main vault'],
    'account-devices': ['/accounts/anna?tab=devices', 'annas-laptop'],
    'account-emails': ['/accounts/anna?tab=emails', 'Send e-mail reports'],
    'account-settings': ['/accounts/anna?tab=settings', 'Membership'],
    'account-document': ['/accounts/anna?tab=profile', 'AccountName'],
    backup: [`/accounts/anna?dialog=backup&which=${device.item}`, 'Start backup'],
    'account-reset': ['/accounts/anna?dialog=password', 'Make one up'],
    'account-preview': ['/accounts/anna?tab=emails&dialog=preview&which=anna@example.org/0', 'Subject'],
    'item-delete': [`/accounts/anna?dialog=delete-item&which=${device.item}`, 'until retention takes them'],
    'vault-delete': [
      `/accounts/anna?tab=vaults&dialog=delete-vault&which=${device.vault}`,
      "Type 'Main vault'",
    ],
    'account-new': ['/accounts/dora', 'No Protected Items yet'],
    delete: ['/accounts/dora?dialog=delete', "Type 'dora'"],
    item: [`/accounts/anna/items/${device.item}`, /^etc$/],
    'item-when': [`/accounts/anna/items/${device.item}?step=2`, 'Add rule'],
    'item-keep': [`/accounts/anna/items/${device.item}?step=3`, 'Own retention'],
    'vault-new': ['/accounts/anna/vaults/new/edit', 'Local path'],
    'vault-s3': ['/accounts/anna/vaults/new/edit?where=1000', 'Secret key'],
    devices: ['/devices', 'reception'],
    lobby: ['/devices?tab=lobby', 'front-desk'],
    'lobby-register': ['/devices?tab=lobby&dialog=register&which=front-desk', 'Password of the account'],
    updates: ['/devices?tab=updates', 'Start the campaign'],
    install: ['/install?q=anna', 'Make a token'],
    downloads: ['/downloads', 'Recommended'],
    jobs: ['/jobs', 'Success'],
    job: [`/jobs/${job.GUID}`, 'Finished'],
    'job-running': [`/jobs/${running}`, 'files found so far'],
    'job-abandon': [`/jobs/${running}?dialog=abandon`, 'Only the record ends'],
    activity: ['/activity', 'Documents of annas-laptop'],
    vault: [folder, 'Restore everything'],
    folder: [`${folder}?path=${encodeURIComponent(`${device.source}/folder 1`)}`, 'document 1.txt'],
    restore: [`${folder}?dialog=restore`, 'Start restore'],
    'restore-folder': [
      `${folder}?dialog=restore&which=${encodeURIComponent(`${device.source}/folder 1`)}`,
      'Restore folder 1',
    ],
    find: [`${folder}?dialog=find`, 'Part of its name'],
    'snapshot-delete': [`${folder}?dialog=delete`, 'is deleted from the vault'],
    policies: ['/policies', 'Offices'],
    'policy-delete': [`/policies?dialog=delete&which=${PolicyID}`, 'keep their present settings'],
    'policy-new': ['/policies/new', 'Defaults'],
    policy: [`/policies/${PolicyID}`, 'Encryption keys'],
    groups: ['/groups', 'Hospitals'],
    'groups-add': ['/groups?dialog=new', 'one group at most'],
    news: ['/news', 'Maintenance'],
    tenants: ['/tenants', 'North GmbH'],
    tenant: [`/tenants/${tenant}`, 'Choose a logo'],
    admins: ['/admins', 'second'],
    admin: ['/admins/second', 'Change server settings'],
    storage: ['/storage', 'Measured'],
    'bucket-delete': [`/storage?dialog=delete-bucket&which=${bucket}`, 'deleted at once'],
    templates: ['/storage?tab=templates', 'No storage templates yet'],
    settings: ['/settings', 'Protection of log-ins'],
    'settings-branding': ['/settings?tab=branding', 'Choose a logo'],
    'settings-mail': ['/settings?tab=mail', 'Sent by'],
    quotas: ['/storage?tab=quotas', 'Branches'],
    'bucket-rules': [`/storage?dialog=${bucket}`, 'The trash is empty'],
    'settings-login': ['/settings?tab=login', 'External log-in'],
    'settings-copies': ['/settings?tab=copies', 'Copies of the server'],
    replication: ['/replication', 'Copied to no other server'],
    cluster: ['/cluster', 'This server'],
    audit: ['/audit', 'Added'],
    'audit-account': ['/audit?show=account&which=anna', 'AccountName'],
    setup: ['/setup', 'Name of the service'],
    'setup-storage': ['/setup?step=2', 'Folder of the buckets'],
    'setup-mail': ['/setup?step=3', 'Sent by'],
    'setup-copies': ['/setup?step=4', 'Copy it every night'],
    'setup-account': ['/setup?step=5', 'Account name'],
    'activity-devices': ['/activity?by=device', 'annas-laptop'],
    'account-jobs': ['/accounts/anna?tab=jobs', 'Backups by result'],
    compare: [`${folder}?compare=${older}`, 'all of it'],
    'settings-roles': ['/settings?tab=roles', 'Build branded clients'],
    'settings-webhooks': ['/settings?tab=webhooks', 'Add webhook'],
    'settings-document': ['/settings?tab=document', 'AuthenticationRole'],
    logs: ['/logs', 'lines, newest first'],
    about: ['/about', 'Running since'],
    me: ['/me', 'Security keys'],
    'me-codes': ['/me?dialog=totp', 'Make a secret'],
    stop: [`/settings?dialog=stop`, 'Somebody has to start it again'],
    reports: ['/reports', 'People of each club'],
    'report-new': ['/reports/new?template=1001', 'Person ID'],
    'report-chart': [`/reports/${drawn}`, 'Chart'],
    'report-pivot': [`/reports/${pivoted}`, 'Drawn as'],
    'report-sources': ['/reports/sources', 'No data sources yet'],
    'report-source': ['/reports/sources?dialog=source', 'Database'],
    'report-template': ['/reports/sources?dialog=template', 'Check and save'],
    'report-schedule': [`/reports?dialog=schedule&which=${ReportID}`, 'Times of'],
    'report-share': [`/reports?dialog=share&which=${ReportID}`, 'They see the rows'],
    'report-code': [`/reports?dialog=code&which=${ReportID}`, 'Nobody has called yet'],
  };
  for (const [look, options] of Object.entries(LOOKS)) {
    if (wanted.length > 0 && !wanted.includes(look)) continue;
    const page = await openPage(browser, server, { ...options, reducedMotion: 'reduce' });
    const shoot = async (name) => {
      await page.waitForLoadState('networkidle');
      await page.screenshot({ path: path.join(target, `${name}-${look}.png`) });
    };
    await page.goto('/');
    await page.getByLabel('User name').waitFor();
    await shoot('sign-in');
    await signIn(page);
    await page.getByText('Latest jobs').waitFor();
    for (const [name, [address, text]] of Object.entries(pages)) {
      await page.goto(address);
      await page
        .getByText(text)
        .filter({ visible: true })
        .first()
        .waitFor()
        .then(() => page.getByRole('status', { name: 'Loading' }).first().waitFor({ state: 'detached' }))
        .catch(() => page.problems.push(`${name}: '${text}' is not shown`));
      // The event stream keeps the network busy, so what is shown decides.
      await page.screenshot({ path: path.join(target, `${name}-${look}.png`) });
    }
    await page.goto(`${folder}?show=calendar`);
    await page
      .getByRole('button', { name: /snapshots$/ })
      .first()
      .waitFor();
    await page.screenshot({ path: path.join(target, `calendar-${look}.png`) });
    await page.goto('/');
    await page.getByRole('button', { name: 'Search and commands' }).click();
    await page.getByRole('combobox', { name: 'Search and commands' }).fill('an');
    await page.screenshot({ path: path.join(target, `palette-${look}.png`) });
    await page.goto('/jobs');
    await page.getByText('Success').first().waitFor();
    await page.getByRole('button', { name: 'Views' }).waitFor();
    await page.keyboard.press('Shift+Slash');
    await page.getByRole('dialog', { name: 'Keyboard' }).waitFor();
    await page.screenshot({ path: path.join(target, `keyboard-${look}.png`) });
    if (options.isMobile) {
      await page.goto('/jobs');
      await page.getByRole('button', { name: 'Menu' }).click();
      await page.screenshot({ path: path.join(target, `menu-${look}.png`) });
    } else {
      await page.goto('/');
      await page.getByRole('link', { name: /Success: \d/ }).hover();
      await page.screenshot({ path: path.join(target, `home-hover-${look}.png`) });
    }
    await page.goto('/accounts?show=never');
    await page.getByRole('button', { name: 'Views' }).click();
    await page.getByLabel('Name of the view').fill('Never backed up');
    await page.getByRole('button', { name: 'Keep', exact: true }).click();
    await page.screenshot({ path: path.join(target, `views-${look}.png`) });
    await page.goto('/audit?show=account&which=anna');
    await page
      .getByRole('button', { name: /AccountName/ })
      .first()
      .click();
    await page.getByRole('dialog').getByText('From address').waitFor();
    await page.screenshot({ path: path.join(target, `audit-entry-${look}.png`) });
    await page.goto('/jobs?dialog=search');
    await page.getByRole('button', { name: 'Find', exact: true }).waitFor();
    await page.screenshot({ path: path.join(target, `search-builder-${look}.png`) });
    if (page.problems.length > 0) console.error(look, page.problems);
    await page.context().close();
    const own = await openPage(browser, server, { ...options, reducedMotion: 'reduce' });
    await signIn(own, 'anna');
    await own.getByText('Documents of annas-laptop').waitFor();
    await own.screenshot({ path: path.join(target, `user-home-${look}.png`) });
    await own.goto(folder);
    await own.getByText('Restore everything').waitFor();
    await own.screenshot({ path: path.join(target, `user-vault-${look}.png`) });
    await own.getByRole('button', { name: 'Restore everything' }).click();
    await own.getByRole('dialog').getByText('Start restore').waitFor();
    await own.screenshot({ path: path.join(target, `user-restore-${look}.png`) });
    const ownPages = {
      'user-vaults': ['/?tab=vaults', 'Main vault'],
      'user-devices': ['/?tab=devices', 'annas-laptop'],
      'user-add-device': ['/?tab=devices&dialog=add-device', 'Run this on the device'],
      'user-emails': ['/?tab=emails', 'anna@example.org'],
      'user-settings': ['/?tab=settings', 'Time zone'],
      'user-reports': ['/reports', 'No reports yet'],
      'user-news': ['/news', 'Maintenance'],
    };
    for (const [name, [address, text]] of Object.entries(ownPages)) {
      await own.goto(address);
      await own.getByText(text).first().waitFor();
      await own.screenshot({ path: path.join(target, `${name}-${look}.png`) });
    }
    await own.goto('/jobs');
    await own.getByText('Success').first().waitFor();
    await own.screenshot({ path: path.join(target, `user-jobs-${look}.png`) });
    await own.goto('/me');
    await own.getByText('Not set up').waitFor();
    await own.screenshot({ path: path.join(target, `user-me-${look}.png`) });
    if (own.problems.length > 0) console.error(look, 'end user', own.problems);
    await own.context().close();
  }
} finally {
  await browser.close();
  await server.stop();
}
