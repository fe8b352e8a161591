/** The move dialog: what is missing there and is installed from it, and a cell that runs. Real pip, a real kernel, real SSH. */
import { execFileSync } from 'child_process';
import * as fs from 'fs';
import * as path from 'path';

import { ComputePanel } from './compute-panel';
import { Emulator } from './emulator';
import { expect, test } from './fixtures';
import { NotebookPage } from './notebook-page';
import { PYTHON } from './processes';

const WHEEL = `
import sys, zipfile
folder, name = sys.argv[1:]
info = f"{name}-1.0.dist-info"
with zipfile.ZipFile(f"{folder}/{name}-1.0-py3-none-any.whl", "w") as z:
    z.writestr(f"{name}.py", "there = True")
    z.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n")
    z.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    z.writestr(f"{info}/RECORD", "")
`;

/** The machine's pip finds this package, and no other. */
function offer(emulator: Emulator, machine: string, name: string): void {
  const { disk } = emulator.ready.vms.find(vm => vm.name === machine)!;
  const home = path.join(disk, 'home', 'azureuser');
  const wheels = path.join(home, 'wheels');
  fs.mkdirSync(wheels, { recursive: true });
  fs.mkdirSync(path.join(home, '.config', 'pip'), { recursive: true });
  execFileSync(PYTHON, ['-c', WHEEL, wheels, name]);
  // As root the machine has a file system of its own; otherwise it sees this computer's.
  const seen = process.getuid?.() === 0 ? '/home/azureuser/wheels' : wheels;
  const settings = ['[global]', 'no-index = true', `find-links = ${seen}`, ''].join('\n');
  fs.writeFileSync(path.join(home, '.config', 'pip', 'pip.conf'), settings);
}

test('what the notebook imports and the machine lacks is installed from the dialog', async ({
  page,
  server,
  emulator
}) => {
  offer(emulator, 'cpu-vm', 'tiny_thing');
  server.write('imports.ipynb', ['import json, ipykernel\nimport tiny_thing', 'print(tiny_thing.there)']);
  const notebook = new NotebookPage(page, server);
  const compute = new ComputePanel(page);
  await notebook.open('imports.ipynb');
  await compute.open();
  // What is not saved counts, too.
  await notebook.cell(1).locator('.cm-content').click();
  await page.keyboard.press('Control+End');
  await page.keyboard.insertText('\nimport no_such_package');
  await compute.button('cpu-vm', 'Attach this notebook').click();
  await expect(compute.dialog).toContainText('2 modules are missing there: tiny_thing, no_such_package');
  await expect(compute.dialog.getByRole('button', { name: 'Move' })).toBeFocused();
  const install = compute.dialog.getByRole('button', {
    name: 'Install',
    exact: true
  });
  await install.focus();
  await page.keyboard.press('Enter');
  await expect(compute.dialog).toContainText('No matching distribution found for no-such-package', { timeout: 60_000 });
  await page.keyboard.press('Escape');
  await expect(compute.dialog).toHaveCount(0);

  await notebook.cell(1).locator('.cm-content').click();
  await page.keyboard.press('Control+End');
  await page.keyboard.press('Shift+Home');
  await page.keyboard.press('Delete');
  await compute.button('cpu-vm', 'Attach this notebook').click();
  await expect(compute.dialog).toContainText('1 module is missing there: tiny_thing.');
  await install.click();
  await expect(compute.dialog).toContainText('cpu-vm has all that the notebook imports.', { timeout: 60_000 });
  await expect(page.getByText(/^tiny-thing is installed for .* on cpu-vm\./).first()).toBeVisible();
  await compute.dialog.getByRole('button', { name: 'Move' }).click();
  await notebook.untilOn('cpu-vm');
  await notebook.runAll();
  expect(await notebook.output(1)).toBe('True');
});

test('a running cell is interrupted for the move, where somebody says so', async ({ page, server }) => {
  server.write('long.ipynb', ['import time\nprint("begun")\ntime.sleep(300)', 'print("never")']);
  const notebook = new NotebookPage(page, server);
  const compute = new ComputePanel(page);
  await notebook.open('long.ipynb');
  await compute.open();
  await notebook.start(0);
  await expect(notebook.cell(0)).toContainText('begun');
  await notebook.start(1);
  await compute.button('cpu-vm', 'Attach this notebook').click();
  await expect(compute.dialog.getByRole('radio', { name: /^Wait until it finishes/ })).toBeChecked();
  await compute.dialog.getByRole('radio', { name: /^Interrupt it/ }).check();
  await compute.dialog.getByRole('button', { name: 'Move' }).click();
  await notebook.untilOn('cpu-vm');
  await expect(notebook.cell(0)).toContainText('KeyboardInterrupt');
  expect(await notebook.output(1)).toBe('');
});
