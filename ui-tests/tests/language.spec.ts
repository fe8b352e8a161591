/** Every text goes through the translator: in a language of brackets, what has none is a name, a number, or the server's. */
import { Page } from '@playwright/test';

import { DIALOG, leave, MENU, PANEL, TOAST } from './accessibility';
import { ComputePanel } from './compute-panel';
import { expect, test } from './fixtures';
import { pseudo, serversWords, speakPseudo, untranslated } from './pseudo-locale';

/** Names that the page makes of the server's, and what JupyterLab itself says in a notification. */
const DATA = [
  /\b[A-Z]+\d+\w*\b/g,
  /\b(lab|westeurope|northeurope)\b/g,
  /\blanguage\.ipynb\b/g,
  /\b[AP]M\b/g,
  /^(Hide notification|notification timer)$/
];

/** Machines in lists only are not watched: as if they were, in the states that have most to say. */
async function addIdleStops(page: Page): Promise<void> {
  const at = (minutes: number): string => new Date(Date.now() + minutes * 60_000).toISOString();
  const idle = {
    state: 'stops_soon',
    text: 'Nobody uses it.',
    stops_at: at(5),
    kept_until: null,
    idle_minutes: 30,
    hard_limit_hours: null,
    hard: false,
    lost: ['/mnt/model.bin'],
    safety: { kind: 'none', text: 'No safety stop: a lock.', at: null, averted: true }
  };
  const stops: Record<string, object> = {
    'on-vm': { ...idle, state: 'kept', stops_at: at(600), kept_until: at(60), hard: true },
    'resized-vm': idle
  };
  await page.route('**/jupyter-dsvm/computes?*', async route => {
    const response = await route.fetch();
    const list = await response.json();
    for (const compute of list.computes ?? []) {
      compute.idle = stops[compute.name] ?? compute.idle;
    }
    await route.fulfill({ response, json: list });
  });
}

test('every text can be translated', async ({ page, statesServer, statesEmulator }) => {
  statesServer.write('language.ipynb', ['1 + 1']);
  await speakPseudo(page);
  await addIdleStops(page);
  const words = serversWords(page);
  const missing = (selector: string): Promise<string[]> => untranslated(page.locator(selector), words, DATA);
  await page.goto(statesServer.address('lab/tree/language.ipynb'));
  await new ComputePanel(page).open();
  const panel = page.locator(PANEL);
  const chip = page.locator('.jp-Dsvm-chipButton:visible');
  const card = (name: string) => panel.locator('.jp-Dsvm-card').filter({ has: page.getByRole('heading', { name }) });
  const dialog = page.locator(DIALOG);

  /** Look at what is open, and close it. */
  const look = async (selector: string): Promise<void> => {
    expect.soft(await missing(selector)).toEqual([]);
    await leave(page, selector);
  };

  await test.step('the panel and the chip', async () => {
    await expect(chip).toContainText(pseudo('Free tier'));
    await expect(card('off-vm')).toBeVisible();
    expect.soft(await missing(PANEL)).toEqual([]);
    expect.soft(await missing('.jp-Dsvm-chip')).toEqual([]);
  });

  await test.step('menus', async () => {
    await chip.click();
    await look(MENU);
    await card('on-vm').locator('[aria-haspopup="menu"]').click();
    await look(MENU);
  });

  await test.step('moving', async () => {
    const button = card('off-vm').locator('.jp-Dsvm-primary');
    await expect(button).toHaveText(pseudo('Start and attach')); // once the notebook has its kernel
    await button.click();
    await expect(dialog).toContainText('JavaScript');
    await look(DIALOG);
  });

  await test.step('another size', async () => {
    await card('on-vm').locator('[aria-haspopup="menu"]').click();
    await page.getByRole('menuitem', { name: /Resize/ }).click();
    await expect(dialog.getByRole('radio').first()).toBeVisible();
    await look(DIALOG);
  });

  await test.step('a new machine', async () => {
    await panel.getByRole('button', { name: pseudo('Create a machine') }).click();
    await expect(dialog.locator('select').first()).toBeVisible();
    await look(DIALOG);
  });

  await test.step('an operation, and what comes of it', async () => {
    await statesEmulator.control('PUT', 'timings', { start: 120 });
    await card('starting-vm').locator('[aria-haspopup="menu"]').click();
    await page.getByRole('menuitem', { name: /⟦Start/ }).click();
    await expect(card('starting-vm').getByRole('progressbar')).toBeVisible();
    await statesEmulator.control('PUT', 'timings', { start: 0.5 });
    expect.soft(await missing(PANEL)).toEqual([]);
    expect.soft(await missing(TOAST)).toEqual([]);
    await card('starting-vm').getByRole('button', { name: pseudo('Stop waiting and release') }).click();
    await expect(card('starting-vm').getByRole('progressbar')).toHaveCount(0);
  });

  await test.step('when a machine is stopped', async () => {
    await expect(card('resized-vm').locator('.jp-Dsvm-primary')).toHaveText(pseudo('Keep on 1 h'));
    await card('resized-vm').locator('[aria-haspopup="menu"]').click();
    await page.getByRole('menuitem', { name: /⟦Auto-stop/ }).click();
    await expect(dialog.getByRole('radio').first()).toBeVisible();
    await look(DIALOG);
  });

  await test.step('a problem', async () => {
    await card('scarce-vm').locator('[aria-haspopup="menu"]').click();
    await page.getByRole('menuitem', { name: /⟦Start/ }).click();
    await card('scarce-vm').getByText(pseudo('What Azure said')).click();
    expect.soft(await missing(PANEL)).toEqual([]);
    await card('scarce-vm').getByRole('button', { name: pseudo('Dismiss') }).click();
  });

  await test.step('the palette', async () => {
    await page.keyboard.press('Control+Shift+C');
    await page.keyboard.type('⟦');
    await expect(page.locator('.lm-CommandPalette-item').first()).toBeVisible();
    expect(await page.locator('.lm-CommandPalette-item').count()).toBeGreaterThan(5);
    expect.soft(await missing('.lm-CommandPalette-item')).toEqual([]);
    await page.keyboard.press('Escape');
  });
});
