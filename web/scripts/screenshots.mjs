// Takes pictures of every page into a folder: light, dark and phone. `npm run screenshots -- FOLDER`
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { launchBrowser, openPage, Server, signIn } from '../tests/support.mjs';

const target = process.argv[2];
if (!target) {
  console.error('usage: npm run screenshots -- FOLDER');
  process.exit(2);
}
await mkdir(target, { recursive: true });

const LOOKS = {
  light: { colorScheme: 'light', viewport: { width: 1280, height: 800 } },
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
  await server.backup(device);
  await server.call('/api/encke/v1/reports/save-sample', { Size: 185, Seed: 1 });

  const pages = {
    home: ['/', 'Latest jobs'],
    accounts: ['/accounts', 'studio.north'],
    account: ['/accounts/anna', 'Documents of annas-laptop'],
    'account-new': ['/accounts/dora', 'No Protected Items yet'],
    devices: ['/devices', 'reception'],
    jobs: ['/jobs', 'Success'],
    job: [`/jobs/${job.GUID}`, 'Finished'],
    vault: [`/accounts/anna/vaults/${device.vault}`, 'Restore everything'],
    folder: [
      `/accounts/anna/vaults/${device.vault}?path=${encodeURIComponent(`${device.source}/folder 1`)}`,
      'document 1.txt',
    ],
    storage: ['/storage', 'Measured'],
    reports: ['/reports', 'Person Registrations'],
  };
  for (const [look, options] of Object.entries(LOOKS)) {
    const page = await openPage(browser, server, options);
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
        .first()
        .waitFor()
        .catch(() => page.problems.push(`${name}: '${text}' is not shown`));
      // The event stream keeps the network busy, so what is shown decides.
      await page.screenshot({ path: path.join(target, `${name}-${look}.png`) });
    }
    await page.goto('/accounts/anna');
    await page.getByRole('button', { name: 'Back up' }).click();
    await page.getByRole('dialog').getByText('Start backup').waitFor();
    await page.screenshot({ path: path.join(target, `backup-${look}.png`) });
    if (page.problems.length > 0) console.error(look, page.problems);
    await page.context().close();
  }
} finally {
  await browser.close();
  await server.stop();
}
