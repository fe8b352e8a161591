/** A notebook's folder goes along to a machine, and what changes comes back: a real JupyterLab and a real SSH server. */
import { Page } from '@playwright/test';
import * as fs from 'fs';
import * as path from 'path';

import { DIALOG, faultsInBothThemes, PANEL } from './accessibility';
import { ComputePanel } from './compute-panel';
import { expect, test } from './fixtures';
import { JupyterServer } from './jupyter-server';
import { NotebookPage } from './notebook-page';

const CELLS = [
  'import helpers, pathlib\nprint(helpers.double(pathlib.Path("data.csv").read_text()), pathlib.Path.cwd().parent.name)',
  'written = pathlib.Path("result.txt").write_text("made there")',
  'written = pathlib.Path("data.csv").write_text("x,100\\n")',
  // It goes on after the link is gone, and after its kernel's end.
  `import subprocess\nlate = subprocess.Popen(["sh", "-c", "until [ -e ~/go ]; do sleep 0.1; done; printf late > late.txt"], start_new_session=True)`
];

/** A notebook beside a table and a helper, in a folder of the server. */
function addFolder(server: JupyterServer): string {
  const folder = path.join(server.notebooks, 'work');
  fs.mkdirSync(folder);
  fs.writeFileSync(path.join(folder, 'data.csv'), 'x,21\n');
  fs.writeFileSync(
    path.join(folder, 'helpers.py'),
    'def double(table):\n    return 2 * int(table.split(",")[1])\n'
  );
  fs.writeFileSync(path.join(folder, '.secret'), 'it stays here');
  const cells = CELLS.map((source, index) => ({
    cell_type: 'code',
    id: `cell-${index}`,
    metadata: {},
    outputs: [],
    execution_count: null,
    source
  }));
  const kernelspec = { name: 'python3', display_name: 'Python 3', language: 'python' };
  const notebook = { cells, metadata: { kernelspec }, nbformat: 4, nbformat_minor: 5 };
  fs.writeFileSync(path.join(folder, 'analysis.ipynb'), JSON.stringify(notebook));
  return folder;
}

const tabs = (page: Page) => page.locator('#jp-main-dock-panel .lm-TabBar-tabLabel');

test('a notebook takes its folder along, and what changes there comes back', async ({ page, server }) => {
  test.setTimeout(300_000);
  const folder = addFolder(server);
  const here = (name: string): string => {
    const file = path.join(folder, name);
    return fs.existsSync(file) ? fs.readFileSync(file, 'utf-8') : '';
  };
  const notebook = new NotebookPage(page, server);
  const compute = new ComputePanel(page);
  await notebook.open('work/analysis.ipynb');
  await compute.open();
  const files = compute.thisNotebook.getByRole('group', { name: 'Files of this notebook' });

  await test.step('the move dialog says how much goes along', async () => {
    await compute.button('cpu-vm', 'Attach this notebook').click();
    const box = compute.dialog.getByRole('checkbox', { name: /^Copy the notebook’s folder \(\d+(\.\d+)? k?B, 3 files\)$/ });
    await expect(box).toBeChecked();
    expect(await faultsInBothThemes(page, DIALOG)).toEqual([]);
    await compute.dialog.getByRole('button', { name: 'Move' }).click();
    await notebook.untilOn('cpu-vm');
  });

  await test.step('what lies beside the notebook is there', async () => {
    await expect(files.getByRole('status')).toHaveText(/, in step\.$/);
    await notebook.run(0);
    expect(await notebook.output(0)).toMatch(/^42 notebooks$/);
  });

  await test.step('what the notebook writes there comes here', async () => {
    await notebook.run(1);
    await expect.poll(() => here('result.txt')).toBe('made there');
  });

  await test.step('of what changes on both sides, both versions are there', async () => {
    fs.writeFileSync(path.join(folder, 'data.csv'), 'x,1\n');
    await notebook.run(2);
    await expect(files.getByRole('status')).toHaveText(/, in step but for 1 conflict\.$/);
    await expect(files).toContainText('This file was changed here and on cpu-vm. Both versions are there.');
    expect(here('data.csv')).toBe('x,1\n');
    expect(await faultsInBothThemes(page, PANEL)).toEqual([]);
    await files.getByRole('button', { name: 'Show both versions of data.csv' }).click();
    await expect(tabs(page).filter({ hasText: /^data\.csv$/ })).toHaveCount(1);
    await expect(tabs(page).filter({ hasText: /^data \(cpu-vm .*\)\.csv$/ })).toHaveCount(1);
  });

  await test.step('a person keeps one of them', async () => {
    await tabs(page).filter({ hasText: 'analysis.ipynb' }).click();
    await files.getByRole('button', { name: 'Keep theirs of data.csv' }).click();
    await expect(files.getByRole('status')).toHaveText(/, in step\.$/);
    expect(here('data.csv')).toBe('x,100\n');
    expect(fs.readdirSync(folder).filter(name => name.startsWith('data'))).toEqual(['data.csv']);
    await notebook.run(0);
    expect(await notebook.output(0)).toMatch(/^200 /);
  });

  await test.step('by hand, it says what it did', async () => {
    fs.writeFileSync(path.join(folder, 'more.txt'), 'more');
    await files.getByRole('button', { name: 'Sync now' }).click();
    await expect(page.getByText('1 file copied to cpu-vm.').first()).toBeVisible();
  });

  await test.step('on the way back, what has changed comes first', async () => {
    await compute.button('cpu-vm', 'Return to free tier').click();
    await expect(compute.dialog).toContainText('Files that have changed on cpu-vm come back first.');
    await expect(compute.dialog.getByRole('checkbox', { name: /^Copy the notebook/ })).toHaveCount(0);
    await compute.dialog.getByRole('button', { name: 'Move' }).click();
    // Beside the two versions there is no room for the toolbar's item.
    await expect(compute.thisNotebook).toContainText('analysis.ipynb runs on Free tier', { timeout: 60_000 });
    await expect(files).toHaveCount(0);
  });
});

test('files that have not come back with the notebook are shown until they have', async ({ page, server, emulator }) => {
  const folder = addFolder(server);
  const notebook = new NotebookPage(page, server);
  const compute = new ComputePanel(page);
  await notebook.open('work/analysis.ipynb');
  await compute.open();
  const files = compute.thisNotebook.getByRole('group', { name: 'Files of this notebook' });
  await compute.move('cpu-vm', 'Attach this notebook');
  await notebook.untilOn('cpu-vm');
  await expect(files.getByRole('status')).toHaveText(/, in step\.$/);
  await notebook.run(0);
  await notebook.run(3);

  await emulator.control('POST', 'vms/cpu-vm/kill-ssh');
  try {
    await expect(notebook.chip).toContainText('cpu-vm · reconnecting');
    const home = path.join(emulator.disk('cpu-vm'), 'home', 'azureuser');
    fs.writeFileSync(path.join(home, 'go'), '');
    const folders = fs.readdirSync(path.join(home, 'notebooks')).map(name => path.join(home, 'notebooks', name));
    await expect.poll(() => folders.some(there => fs.existsSync(path.join(there, 'late.txt')))).toBe(true);
    await compute.choose('cpu-vm', /^Return Notebook/);
    await compute.dialog.getByRole('button', { name: 'Move' }).click();
    await expect(compute.thisNotebook).toContainText('analysis.ipynb runs on Free tier', { timeout: 60_000 });
    await expect(files.getByRole('alert')).toContainText('come by themselves when cpu-vm is reached');
    expect(fs.existsSync(path.join(folder, 'late.txt'))).toBe(false);
    expect(await faultsInBothThemes(page, PANEL)).toEqual([]);
  } finally {
    await emulator.control('POST', 'vms/cpu-vm/start-ssh');
  }

  await compute.move('cpu-vm', 'Attach this notebook');
  await notebook.untilOn('cpu-vm');
  await expect.poll(() => fs.existsSync(path.join(folder, 'late.txt')), { timeout: 60_000 }).toBe(true);
  await expect(files.getByRole('status')).toHaveText(/, in step\.$/);
});
