/** What a cell puts out while no page is connected is in the notebook's file, and nobody is asked about that afterwards. */
import * as fs from 'fs';
import * as path from 'path';

import { expect, test } from './fixtures';
import { JupyterServer } from './jupyter-server';
import { NotebookPage } from './notebook-page';
import { Wire } from './wire';

const SLOW = 'import time\nprint("begun", flush=True)\ntime.sleep(8)\nprint("done")';

/** The output of the first cell, in the file. */
function written(server: JupyterServer, name: string): string {
  try {
    const { cells } = JSON.parse(fs.readFileSync(path.join(server.notebooks, name), 'utf8'));
    return cells[0].outputs.map((output: { text?: string[] }) => (output.text ?? []).join('')).join('');
  } catch {
    return ''; // it is written just now
  }
}

test('a page that lost its network saves over it without a question', async ({ page, server }) => {
  test.setTimeout(300_000);
  const wire = await Wire.to(server.port);
  try {
    server.pagesThrough(wire.port);
    server.write('sleeps.ipynb', [SLOW, '1 + 1']);
    const warnings: string[] = [];
    page.on('console', message => warnings.push(message.text()));
    const notebook = new NotebookPage(page, server);
    await notebook.open('sleeps.ipynb');
    // JupyterLab's own, which a person closes.
    const lost = page.getByRole('dialog', { name: /^Server Connection Error/ });
    await page.addLocatorHandler(lost, dialog => dialog.getByRole('button').last().click());
    await notebook.start(0);
    await expect(notebook.cell(0)).toContainText('begun');
    wire.cut();
    await expect.poll(() => written(server, 'sleeps.ipynb'), { timeout: 120_000 }).toBe('begun\ndone\n');
    wire.mend();
    await expect(notebook.cell(0)).toContainText('done', { timeout: 120_000 });
    await notebook.untilIdle();
    await notebook.run(1);
    await page.keyboard.press('Control+s');
    const second = (): string => fs.readFileSync(path.join(server.notebooks, 'sleeps.ipynb'), 'utf8');
    await expect.poll(second).toContain('"2"');
    await expect(page.getByRole('dialog')).toHaveCount(0);
    // JupyterLab has seen that the file is another one, and would have asked.
    expect(warnings.filter(text => text.startsWith('Different hash found'))).not.toEqual([]);
    expect(written(server, 'sleeps.ipynb')).toBe('begun\ndone\n');
  } finally {
    await wire.end();
  }
});

test('a page that is opened afterwards has it, and saves without a question', async ({ page, server }) => {
  test.setTimeout(300_000);
  server.write('closed.ipynb', [SLOW, '1 + 1']);
  const notebook = new NotebookPage(page, server);
  await notebook.open('closed.ipynb');
  await notebook.start(0);
  await expect(notebook.cell(0)).toContainText('begun');
  page.on('dialog', dialog => void dialog.accept());
  await page.goto('about:blank');
  await expect.poll(() => written(server, 'closed.ipynb'), { timeout: 120_000 }).toBe('begun\ndone\n');
  await notebook.open('closed.ipynb');
  expect(await notebook.output(0)).toBe('begun\ndone');
  await notebook.run(1);
  await page.keyboard.press('Control+s');
  const second = (): string => fs.readFileSync(path.join(server.notebooks, 'closed.ipynb'), 'utf8');
  await expect.poll(second).toContain('"2"');
  await expect(page.getByRole('dialog')).toHaveCount(0);
});
