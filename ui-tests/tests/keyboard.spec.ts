/** All without a mouse: a notebook moves and comes back, and the keyboard is where a person expects it. */
import { Locator, Page } from '@playwright/test';

import { ComputePanel } from './compute-panel';
import { expect, test } from './fixtures';
import { NotebookPage } from './notebook-page';

/** Whether what has the keyboard can be seen to have it. */
async function expectSeen(focused: Locator): Promise<void> {
  await expect(focused).toBeFocused();
  const seen = await focused.evaluate(node => {
    const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(node);
    return node.matches(':focus-visible') && ((outlineStyle !== 'none' && outlineWidth !== '0px') || boxShadow !== 'none');
  });
  expect(seen, 'the focus is visible').toBe(true);
}

/** Press a key until this has the keyboard. */
async function pressUntil(page: Page, key: string, wanted: Locator): Promise<void> {
  const isThere = (): Promise<boolean> => wanted.evaluate(node => node === document.activeElement);
  for (let presses = 0; !(await isThere()); presses += 1) {
    expect(presses, `presses of ${key}`).toBeLessThan(80);
    await page.keyboard.press(key);
  }
}

/** Whether the keyboard is inside this. */
const holdsFocus = (node: Locator): Promise<boolean> => node.evaluate(node => node.contains(document.activeElement));

test('from the notebook to a machine and back through the palette', async ({ page, server }) => {
  server.write('keys.ipynb', ['1 + 1']);
  const notebook = new NotebookPage(page, server);
  const compute = new ComputePanel(page);
  await notebook.open('keys.ipynb');

  await compute.command('Attach Notebook to a Machine…');
  await expectSeen(compute.dialog.getByRole('combobox'));
  // A list takes the letters of what is wanted.
  await page.keyboard.type('cpu-vm');
  await page.keyboard.press('Enter');
  await expect(compute.dialog).toContainText('Move keys.ipynb to cpu-vm?');
  await expectSeen(compute.dialog.getByRole('button', { name: 'Move' }));
  await page.keyboard.press('Enter');
  await notebook.untilOn('cpu-vm');
  await expect.poll(() => holdsFocus(notebook.notebook), { message: 'the notebook has the keyboard again' }).toBe(true);

  await compute.command('Return Notebook to Free Tier…');
  await expectSeen(compute.dialog.getByRole('button', { name: 'Move' }));
  await page.keyboard.press('Enter');
  await notebook.untilOn('Free tier');
  await expect.poll(() => holdsFocus(notebook.notebook), { message: 'the notebook has the keyboard again' }).toBe(true);
});

test('through the panel and the chip', async ({ page, statesServer }) => {
  statesServer.write('keys.ipynb', ['1 + 1']);
  const notebook = new NotebookPage(page, statesServer);
  const compute = new ComputePanel(page);
  await notebook.open('keys.ipynb');
  await compute.command('Open Compute');
  await expect(compute.panel).toBeVisible();

  await test.step('a card’s button, and back to it', async () => {
    await pressUntil(page, 'Tab', compute.button('off-vm', 'Start and attach'));
    await expectSeen(compute.button('off-vm', 'Start and attach'));
    await page.keyboard.press('Enter');
    await expectSeen(compute.dialog.getByRole('button', { name: 'Move' }));
    await test.step('Tab stays in the dialog', async () => {
      for (let presses = 0; presses < 12; presses += 1) {
        await page.keyboard.press('Tab');
        expect(await holdsFocus(compute.dialog)).toBe(true);
      }
    });
    await page.keyboard.press('Escape');
    await expectSeen(compute.button('off-vm', 'Start and attach'));
  });

  await test.step('a card’s menu', async () => {
    await pressUntil(page, 'Tab', compute.menuButton('on-vm'));
    await expectSeen(compute.menuButton('on-vm'));
    await page.keyboard.press('Enter');
    await expect(page.getByRole('menu')).toBeVisible();
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Escape');
    await expectSeen(compute.menuButton('on-vm'));
  });

  await test.step('the chip', async () => {
    // One item of the toolbar takes part in Tab; the arrows lead to the others.
    await notebook.notebook.locator('.jp-NotebookPanel-toolbar [tabindex="0"]').first().focus();
    await pressUntil(page, 'ArrowRight', notebook.chip);
    await expectSeen(notebook.chip);
    await page.keyboard.press('Enter');
    await expect(page.getByRole('menu')).toBeVisible();
    await page.keyboard.press('Escape');
    await expectSeen(notebook.chip);
  });
});
