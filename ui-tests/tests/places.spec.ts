/** Where else a machine is at hand: the status bar, the Running panel, the launcher, a terminal. */
import { expect, test } from './fixtures';
import { NotebookPage } from './notebook-page';

const NAME = 'import os\nprint(os.environ.get("DSVM_NAME", "here"))';

test('status bar, Running panel and launcher know the machine of a notebook', async ({ page, server }) => {
  server.write('analysis.ipynb', [NAME]);
  const notebook = new NotebookPage(page, server);
  await notebook.open('analysis.ipynb');
  const status = page.locator('.jp-Dsvm-status');
  await expect(status).toContainText('Free tier');
  await notebook.moveFromChip('cpu-vm');
  await expect(status).toContainText('cpu-vm');
  await expect(notebook.chip).toHaveText(/^cpu-vm · 16 GB · ~\$[\d.]+\/h$/);

  await page.locator('li[data-id="jp-running-sessions"]').click();
  const running = page.getByRole('region', { name: 'Virtual Machines Section' });
  await expect(running.getByText('cpu-vm · on')).toBeVisible();
  await expect(running.getByText('analysis.ipynb')).toBeVisible();
  await page.getByRole('button', { name: 'Stop All' }).click();
  const dialog = page.getByRole('dialog');
  await expect(dialog).toContainText(/analysis\.ipynb \(cpu-vm\) runs there\. Its variables will be lost/);
  await dialog.getByRole('button', { name: 'Cancel' }).click();

  await page.keyboard.press('Control+Shift+L');
  await expect(status).toBeHidden(); // a launcher runs nowhere
  await page.locator('.jp-LauncherCard[data-category="Notebook"]', { hasText: 'Python 3 (DSVM) on cpu-vm' }).click();
  await notebook.untilOn('cpu-vm');
  await notebook.untilIdle();
  await notebook.cell(0).getByRole('textbox').fill(NAME);
  await notebook.run(0);
  expect(await notebook.output(0)).toBe('cpu-vm');
  await expect(status).toContainText('cpu-vm');
});

test('a terminal on a machine, from the palette', async ({ page, server }) => {
  server.write('analysis.ipynb', [NAME]);
  const notebook = new NotebookPage(page, server);
  await notebook.open('analysis.ipynb');
  await page.keyboard.press('Control+Shift+C');
  await page.keyboard.type('Open Terminal on a Machine');
  await page.keyboard.press('Enter');
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('combobox').selectOption({ label: 'cpu-vm · 4 CPU · 16 GB' });
  await dialog.getByRole('button', { name: 'Continue' }).click();
  const terminal = page.locator('.jp-Terminal:visible');
  await terminal.waitFor();
  await terminal.click();
  await page.keyboard.type('echo on-$DSVM_NAME > said; exit\n');
  await expect(terminal).toHaveCount(0); // it ends with its shell
  const { command } = await server.rest<{ command: string }>('jupyter-dsvm/computes/cpu-vm/ssh');
  expect(command).toMatch(/^ssh -o UserKnownHostsFile=/);
  expect(await server.rest('api/terminals')).toEqual([]);
});
