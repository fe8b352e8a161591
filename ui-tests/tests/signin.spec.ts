/** Signing in to Azure in the panel: a real JupyterLab, and the emulated Entra over https, on whose page the code is entered. */
import { Page } from '@playwright/test';

import { faults, PANEL } from './accessibility';
import { ComputePanel } from './compute-panel';
import { Emulator } from './emulator';
import { expect, test as base } from './fixtures';
import { JupyterServer } from './jupyter-server';

const USUAL = { interval: 1, code_lifetime: 900, at_code: null, at_sign_in: null, at_refresh: null };

const test = base.extend<{ azure: Emulator; server: JupyterServer }>({
  /** Entra as it usually answers, and nobody signed in. */
  azure: async ({ signInEmulator }, use) => {
    await signInEmulator.control('PUT', 'entra', USUAL);
    await signInEmulator.control('POST', 'entra/revoke');
    await use(signInEmulator);
  },

  server: async ({ azure, startServer }, use) => {
    await use(await startServer(azure));
  }
});

// The emulated Entra vouches for itself; the server knows its authority, the browser does not.
test.use({ ignoreHTTPSErrors: true, permissions: ['clipboard-read', 'clipboard-write'] });

async function opened(page: Page, server: JupyterServer): Promise<ComputePanel> {
  const panel = new ComputePanel(page);
  await page.goto(server.address('lab'));
  await panel.launched();
  await panel.open();
  return panel;
}

test('sign in with a code, and out again', async ({ page, server, azure, context }) => {
  const sent: string[] = [];
  page.on('request', request => sent.push(`${request.method()} ${new URL(request.url()).pathname}`));
  const panel = await opened(page, server);

  await test.step('not set up: one sentence, one way in', async () => {
    await expect(panel.signIn).toContainText('Connect your Azure subscription to use bigger machines.');
    await expect(panel.panel.getByRole('alert')).toHaveCount(0);
    await expect(panel.panel).not.toContainText('No machines yet');
    expect(await faults(page, PANEL)).toEqual([]);
  });

  await test.step('the code is shown, and the keyboard is on “Copy code”', async () => {
    await panel.signInButton('Sign in').focus();
    await page.keyboard.press('Enter');
    await expect(panel.signIn).toContainText('and enter');
    await expect(panel.signInButton('Copy code')).toBeFocused();
    await expect(panel.signIn).toContainText('The code can be entered for 15 more minutes.');
    await page.keyboard.press('Enter');
    await expect(panel.signIn).toContainText('Copied.');
    expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(await panel.code());
    expect(await faults(page, PANEL)).toEqual([]);
  });

  await test.step('another page sees that somebody signs in, and no code', async () => {
    const other = await opened(await context.newPage(), server);
    await expect(other.signIn).toContainText('Somebody is signing in just now.');
    const code = await panel.code();
    expect((await other.page.content()).includes(code), 'the code is in the other page').toBe(false);
    await other.page.close();
  });

  await test.step('the link leads to Entra’s page, where the code is entered', async () => {
    const link = panel.signIn.getByRole('link');
    await expect(link).toHaveAttribute('rel', 'noopener noreferrer');
    const code = await panel.code();
    const [entra] = await Promise.all([context.waitForEvent('page'), link.click()]);
    await entra.getByLabel('Code').fill(code);
    await entra.getByLabel('Account').selectOption('ada@example.com');
    await entra.getByRole('button', { name: 'Sign in' }).click();
    await expect(entra.getByRole('status')).toContainText('You have signed in.');
    expect(await entra.evaluate(() => window.opener)).toBeNull();
    await entra.close();
  });

  await test.step('the machines appear', async () => {
    await expect(panel.signIn).toContainText('Signed in as ada@example.com.');
    await expect(panel.card('cpu-vm')).toBeVisible();
    await expect(panel.card('gpu-vm')).toContainText('1 × T4');
    await expect(panel.signIn.locator('.jp-Dsvm-code')).toHaveCount(0);
    expect(await faults(page, PANEL)).toEqual([]);
  });

  await test.step('sign out', async () => {
    await panel.signInButton('Azure account').click();
    await page.getByRole('menuitem', { name: 'Sign out' }).click();
    await expect(panel.signIn).toContainText('Connect your Azure subscription to use bigger machines.');
    await expect(panel.card('cpu-vm')).toHaveCount(0);
  });

  await test.step('after a reload it is as it was', async () => {
    await page.reload();
    await panel.open();
    await expect(panel.signInButton('Sign in')).toBeVisible();
  });
  expect(sent.filter(request => request.startsWith('POST') && request.includes('signin'))).toHaveLength(1);
});

test('a code that expires is said to have expired, and the next one works', async ({ page, server, azure }) => {
  await azure.control('PUT', 'entra', { code_lifetime: 3 });
  const panel = await opened(page, server);
  await panel.signInButton('Sign in').click();
  await expect(panel.signInButton('Copy code')).toBeVisible();
  const alert = panel.signIn.getByRole('alert');
  await expect(alert).toContainText('The code has expired before it was entered.');
  await expect(alert).toContainText('Ask for a new one');

  await azure.control('PUT', 'entra', USUAL);
  await panel.signInButton('Try again').click();
  await expect(panel.signInButton('Copy code')).toBeVisible();
  await azure.control('POST', 'entra/enter', { user_code: await panel.code() });
  await expect(panel.signIn).toContainText('Signed in as ada@example.com.');
  await expect(panel.card('cpu-vm')).toBeVisible();
});

test('conditional access is explained, and a token is a way around it', async ({ page, server, azure }) => {
  const panel = await opened(page, server);
  await panel.signInButton('Sign in').click();
  await expect(panel.signInButton('Copy code')).toBeVisible();
  await azure.control('POST', 'entra/enter', { user_code: await panel.code(), refuse: 53003 });
  const alert = panel.signIn.getByRole('alert');
  await expect(alert).toContainText('A rule of your organisation (conditional access) blocks this sign-in');
  await expect(alert).toContainText('AADSTS53003');
  await expect(alert).toContainText('Another way in');
  expect(await faults(page, PANEL)).toEqual([]);

  await test.step('what is no token is refused, and is nowhere in the page', async () => {
    await panel.signInButton('Other ways…').click();
    const token = panel.signIn.getByLabel('Where codes are blocked: a token');
    await expect(token).toHaveAttribute('type', 'password');
    expect(await faults(page, PANEL)).toEqual([]);
    await token.fill('nonsense-that-nobody-may-see');
    await panel.signInButton('Use this token').click();
    await expect(panel.signIn.getByRole('alert')).toContainText('no access token');
    await expect(token).toHaveValue('');
    const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]));
    const everything = (await page.content()) + kept;
    expect(everything.includes('nonsense-that-nobody-may-see'), 'the token is in the page').toBe(false);
  });

  await test.step('a tenant that there is not', async () => {
    await panel.signIn.getByLabel('Tenant').fill('nowhere.example');
    await panel.signInButton('Get a code').click();
    await expect(panel.signIn.getByRole('alert')).toContainText('There is no such tenant in this cloud.');
    await panel.signInButton('Cancel').click();
    await expect(panel.signInButton('Other ways…')).toBeVisible();
  });
});

test('a sign-in that ends while the page is open is said, and harms nothing', async ({ page, server, azure }) => {
  const panel = await opened(page, server);
  await panel.signInButton('Sign in').click();
  await expect(panel.signInButton('Copy code')).toBeVisible();
  await azure.control('POST', 'entra/enter', { user_code: await panel.code() });
  await expect(panel.card('cpu-vm')).toBeVisible();
  await azure.control('POST', 'entra/revoke');
  const askAgain = panel.panel.getByRole('button', { name: 'Ask again which machines there are' });
  await askAgain.click();
  // Azure takes a token no more; whether the sign-in is over, Entra says when a new one is asked for.
  await expect(panel.panel.getByRole('button', { name: 'Sign in again' })).toBeVisible();
  await expect(panel.card('cpu-vm')).toBeVisible();
  await askAgain.click();
  await expect(panel.signIn).toContainText(
    'Your Azure sign-in has expired. Running kernels are not affected.'
  );
  await expect(panel.panel.getByRole('alert')).toHaveCount(0);
  await expect(panel.signInButton('Sign in')).toBeVisible();
});
