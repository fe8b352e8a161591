/** Outputs whose cell is gone, or is another one now, are offered, and never put into a cell. */
import * as fs from 'fs';
import * as path from 'path';

import { DIALOG, faultsInBothThemes } from './accessibility';
import { expect, test } from './fixtures';
import { NotebookPage } from './notebook-page';
import { closed, isDirty, opened, prompt, saved, text } from './openings';
import { pause } from './processes';

test.use({ serverOptions: { args: ['--expose-app-in-browser'] } });

/** Waits until it is told to go on. */
const WAITING = `
import os, time
while not os.path.exists("go-on"):
    time.sleep(0.05)
print("waited")
`.trim();

test('cells that were edited, deleted and moved meanwhile', async ({ browser, server }) => {
  const file = path.join(server.notebooks, 'changed.ipynb');
  server.write('changed.ipynb', [WAITING, 'print("one")', 'print("two")\ndisplay({"a": 2})', 'print("three")']);
  const first = new NotebookPage(await (await browser.newContext()).newPage(), server);
  await first.open('changed.ipynb');
  for (const index of [0, 1, 2, 3]) {
    await first.start(index);
  }
  await expect(prompt(first, 3)).toHaveText('[*]:');
  await closed(first);
  // Edited is cell 1, deleted cell 2, and 0 and 3 have changed places.
  const notebook = JSON.parse(fs.readFileSync(file, 'utf-8'));
  const [zero, one, , three] = notebook.cells;
  one.source = 'print("edited")';
  fs.writeFileSync(file, JSON.stringify({ ...notebook, cells: [three, one, zero] }));

  const back = await opened(browser, server, 'changed.ipynb');
  await expect(prompt(back, 2)).toHaveText('[*]:');
  fs.writeFileSync(path.join(server.notebooks, 'go-on'), '');
  await expect(prompt(back, 0)).toHaveText('[4]:', { timeout: 30_000 });
  expect(await text(back, 0)).toBe('three\n');
  expect(await text(back, 2)).toBe('waited\n');
  expect(await text(back, 1)).toBe('');
  await expect(prompt(back, 1)).toHaveText('[ ]:');

  const { page } = back;
  const line = back.notebook.locator('.jp-Dsvm-strays');
  await expect(line).toContainText('Outputs that found no cell (2)');
  await line.getByRole('button', { name: 'Show…' }).click();
  const dialog = page.getByRole('dialog', { name: 'Outputs that found no cell' });
  const items = dialog.getByRole('listitem');
  await expect(items).toHaveCount(2);
  await expect(items.nth(0)).toContainText('Its cell has another text now.');
  await expect(items.nth(0).locator('pre')).toHaveText('print("one")');
  await expect(items.nth(1)).toContainText('Its cell is not in this notebook.');
  await items.nth(1).getByRole('button', { name: 'Show' }).click();
  await expect(items.nth(1)).toContainText("{'a': 2}");
  expect(await faultsInBothThemes(page, DIALOG, '.jp-Dsvm-strays')).toEqual([]);
  await items.nth(0).getByRole('button', { name: 'Insert below' }).click();
  await expect(items).toHaveCount(1);
  await items.nth(0).getByRole('button', { name: 'Dismiss' }).click();
  await expect(dialog).toHaveCount(0);
  await expect(line).toBeHidden();

  // Below the edited one.
  await expect(back.notebook.locator('.jp-CodeCell')).toHaveCount(4);
  expect(await text(back, 2)).toBe('one\n');
  await expect(prompt(back, 2)).toHaveText('[2]:');
  await saved(back);
  await closed(back);

  const again = await opened(browser, server, 'changed.ipynb');
  await again.untilIdle();
  await pause(2000);
  await expect(again.notebook.locator('.jp-Dsvm-strays')).toHaveCount(0);
  expect(await isDirty(again)).toBe(false);
  await closed(again);
});

test('a setting turns it off', async ({ browser, server }) => {
  server.write('off.ipynb', ['print("on", flush=True)\nimport time\ntime.sleep(2)']);
  const first = new NotebookPage(await (await browser.newContext()).newPage(), server);
  await first.open('off.ipynb');
  await first.start(0);
  await expect(first.cell(0)).toContainText('on');
  await closed(first);
  const settings = path.join(server.notebooks, '..', 'settings', 'jupyter-dsvm');
  fs.mkdirSync(settings);
  fs.writeFileSync(path.join(settings, 'plugin.jupyterlab-settings'), '{"fillOutputs": false}');
  const back = await opened(browser, server, 'off.ipynb');
  await back.untilIdle();
  await pause(2000);
  expect(await text(back)).toBe('');
  await closed(back);
});
