/** Dialogs, menus and notifications: axe finds nothing in them, light or dark, and Esc takes the keyboard back. */
import { Page } from '@playwright/test';

import { DIALOG, faultsInBothThemes, leave, MENU, TOAST } from './accessibility';
import { ComputePanel } from './compute-panel';
import { expect, test } from './fixtures';
import { NotebookPage } from './notebook-page';

const SLEEP = 'import time\ntime.sleep(600)';

/** Look at what is open, close it with Esc, and see that nothing of it stays. */
async function lookAndLeave(page: Page, selector: string): Promise<void> {
  expect(await faultsInBothThemes(page, selector)).toEqual([]);
  await leave(page, selector);
}

test('menus and dialogs about machines', async ({ page, statesServer }) => {
  statesServer.write('dialogs.ipynb', ['1 + 1']);
  const notebook = new NotebookPage(page, statesServer);
  const compute = new ComputePanel(page);
  await notebook.open('dialogs.ipynb');
  await compute.open();

  await test.step('the chip’s menu', async () => {
    await notebook.chip.click();
    await lookAndLeave(page, MENU);
    await expect(notebook.chip).toBeFocused();
  });

  await test.step('a card’s menu', async () => {
    await compute.menuButton('on-vm').click();
    await lookAndLeave(page, MENU);
    await expect(compute.menuButton('on-vm')).toBeFocused();
  });

  await test.step('moving to a machine that is off, the first time', async () => {
    await compute.button('off-vm', 'Start and attach').click();
    await expect(compute.dialog).toContainText('off');
    await expect(compute.dialog).toContainText('JavaScript');
    await lookAndLeave(page, DIALOG);
    await expect(compute.button('off-vm', 'Start and attach')).toBeFocused();
  });

  await test.step('moving to one that runs and says nothing of its kernels', async () => {
    await compute.button('on-vm', 'Attach this notebook').click();
    await expect(compute.dialog).toContainText('could not be listed');
    await lookAndLeave(page, DIALOG);
  });

  await test.step('another size', async () => {
    await compute.choose('on-vm', /^Resize/);
    await expect(compute.dialog.getByRole('radio').first()).toBeVisible();
    await lookAndLeave(page, DIALOG);
  });

  await test.step('a new machine', async () => {
    await compute.openCreate('Lab', 'westeurope');
    await lookAndLeave(page, DIALOG);
  });

  await test.step('which machine, for a command without one', async () => {
    await compute.command('Attach Notebook to a Machine…');
    await expect(compute.dialog.getByRole('combobox')).toBeVisible();
    await lookAndLeave(page, DIALOG);
  });
});

test('a question that code in a notebook asks', async ({ page, statesServer }) => {
  statesServer.write('asks.ipynb', ['%dsvm start off-vm']);
  const notebook = new NotebookPage(page, statesServer);
  await notebook.open('asks.ipynb');
  await notebook.start(0);
  const { dialog } = new ComputePanel(page);
  await expect(dialog).toContainText('off-vm');
  await expect(dialog).toContainText('$0.66');
  await lookAndLeave(page, DIALOG);
  await expect(notebook.cell(0).locator('.jp-InputPrompt')).not.toContainText('*');
  expect(await notebook.output(0)).not.toContain('Traceback');
});

test('moving while a cell runs, the notification, and stopping what notebooks run on', async ({ page, server }) => {
  server.write('busy.ipynb', ['1 + 1', SLEEP]);
  const notebook = new NotebookPage(page, server);
  const compute = new ComputePanel(page);
  await notebook.open('busy.ipynb');
  await compute.open();

  await test.step('moving there, which a notification follows', async () => {
    await compute.button('cpu-vm', 'Attach this notebook').click();
    await expect(compute.dialog.getByRole('button', { name: 'Move' })).toBeFocused();
    expect(await faultsInBothThemes(page, DIALOG)).toEqual([]);
    await page.keyboard.press('Enter');
    await expect(compute.dialog).toHaveCount(0);
    await expect(page.locator(TOAST)).toContainText(/Mov(ing|ed)/);
    expect(await faultsInBothThemes(page, TOAST)).toEqual([]);
    await notebook.untilOn('cpu-vm');
  });

  await test.step('a cell is running', async () => {
    await notebook.start(1);
    await expect(notebook.cell(1).locator('.jp-InputPrompt')).toContainText('*');
    await compute.button('cpu-vm', 'Return to free tier').click();
    await expect(compute.dialog).toContainText('A cell is running');
    await lookAndLeave(page, DIALOG);
  });

  await test.step('stopping the machine', async () => {
    await compute.choose('cpu-vm', /^Stop/);
    await expect(compute.dialog).toContainText('busy.ipynb');
    await lookAndLeave(page, DIALOG);
    await expect(compute.state('cpu-vm')).toHaveText(/^Running busy\.ipynb\./);
  });
});
