/** Variables that go along with a move, come back after a yes, and cells that wait meanwhile. Real kernels, real SSH. */
import { DIALOG, faultsInBothThemes, PANEL, TOAST } from './accessibility';
import { ComputePanel } from './compute-panel';
import { expect, test } from './fixtures';
import { NotebookPage } from './notebook-page';
import { picture } from './pictures';

const MAKE = `import math
a = [1, 2]
b = {"same": a}
def double(x):
    return 2 * x
lock = __import__("threading").Lock()`;
const USE = 'a.append(double(21))\nprint(a, b["same"] is a, round(math.pi), "lock" in globals())';

test('variables go along, and come back once that is allowed', async ({ page, server }) => {
  server.write('carried.ipynb', [MAKE, USE, 'print(a)']);
  const notebook = new NotebookPage(page, server);
  const compute = new ComputePanel(page);
  await notebook.open('carried.ipynb');
  await compute.open();
  await notebook.run(0);
  const carry = compute.dialog.getByRole('checkbox', { name: /^Carry variables/ });
  const allow = compute.dialog.getByRole('checkbox', { name: /^Allow that for cpu-vm/ });

  const moved = page.locator(TOAST, { hasText: 'variables came along' });

  await test.step('there', async () => {
    await compute.button('cpu-vm', 'Attach this notebook').click();
    await expect(compute.dialog).toContainText(/Carry variables \(3 of 4 · .+; 1 cannot be moved: lock\)/);
    await expect(carry).toBeChecked();
    await expect(compute.dialog).not.toContainText('Variables stay behind');
    await compute.dialog.getByText('Choose which').click();
    expect(await faultsInBothThemes(page, DIALOG)).toEqual([]);
    await picture(page, compute.dialog.locator('.jp-Dialog-content'), 'carry');
    await compute.dialog.getByRole('button', { name: 'Move' }).click();
    await notebook.untilOn('cpu-vm');
    await expect(moved).toContainText(/^Moved to cpu-vm in \d+ s\. \d variables came along \(.+\)\. 1 stayed behind: lock \(a lock/);
    await notebook.run(1);
    expect(await notebook.output(1)).toBe('[1, 2, 42] True 3 False');
  });

  await test.step('undone, with what they are now', async () => {
    // It leaves the screen soon, and stays in the list behind the bell.
    await page.locator('.jp-Notification-Status').click();
    await page.locator('.jp-Notification-Center').getByRole('button', { name: 'Undo' }).click();
    await expect(compute.dialog).toContainText('Move carried.ipynb to Free tier?');
    await expect(carry).toBeChecked();
    await expect(allow).not.toBeChecked();
    expect(await faultsInBothThemes(page, DIALOG)).toEqual([]);
    await picture(page, compute.dialog.locator('.jp-Dialog-content'), 'carry-back');
    await compute.dialog.getByRole('button', { name: 'Move' }).click();
    // Not ticked: then it is asked.
    await expect(compute.dialog).toContainText('Carry variables from cpu-vm?');
    await compute.dialog.getByRole('button', { name: 'Carry them' }).click();
    await notebook.untilOn('Free tier');
    await notebook.run(2);
    expect(await notebook.output(2)).toBe('[1, 2, 42]');
  });

  await test.step('a second time nothing is asked', async () => {
    await notebook.moveFromChip('cpu-vm');
    await notebook.run(1);
    expect(await notebook.output(1)).toBe('[1, 2, 42, 42] True 3 False');
    await compute.button('cpu-vm', 'Return to free tier').click();
    await expect(carry).toBeChecked();
    await expect(allow).toHaveCount(0);
    await compute.dialog.getByRole('button', { name: 'Move' }).click();
    await notebook.untilOn('Free tier');
    await notebook.run(2);
    expect(await notebook.output(2)).toBe('[1, 2, 42, 42]');
  });
});

/** From the second look on it takes its time: the first is the dialog's. */
const SLOW = `import os, time
order, here = [], os.getpid()
class Slow:
    looks = 0
    def __reduce__(self):
        Slow.looks += 1
        time.sleep(600 if Slow.looks > 1 else 0)
        return list, ()
slow = Slow()`;
const FIRST = 'order.append(1)\nprint(order, os.getpid() == here)';
const SECOND = 'order.append(2)\nprint(order, os.getpid() == here)';

test('cells wait for a move, in order, and run where it ends', async ({ page, server }) => {
  server.write('slow.ipynb', [SLOW, FIRST, SECOND, 'del slow\ntime.sleep(8)', '%dsvm detach --carry']);
  const notebook = new NotebookPage(page, server);
  const compute = new ComputePanel(page);
  await notebook.open('slow.ipynb');
  await compute.open();
  await notebook.run(0);

  await test.step('a move that is cancelled', async () => {
    await compute.button('cpu-vm', 'Attach this notebook').click();
    await expect(compute.dialog).toContainText(/Carry variables \(\d · /);
    await compute.dialog.getByRole('button', { name: 'Move' }).click();
    await expect(compute.steps('cpu-vm', 'running')).toContainText('Carrying variables', { timeout: 60_000 });
    await notebook.start(1);
    await notebook.start(2);
    await expect(notebook.chip).toHaveText('cpu-vm · carrying · 2 cells wait');
    await expect(compute.thisNotebook).toContainText('2 cells wait their turn, in order.');
    for (const cell of [1, 2]) {
      await expect(notebook.cell(cell).locator('.jp-InputPrompt')).toHaveText('[*]:');
    }
    expect(await faultsInBothThemes(page, PANEL, '.jp-Dsvm-chip')).toEqual([]);
    await picture(page, compute.thisNotebook, 'cells-wait');
    await compute.button('cpu-vm', 'Cancel').click();
    await expect(notebook.cell(2)).toContainText('[1, 2] True');
    expect(await notebook.output(1)).toBe('[1] True');
    await notebook.untilOn('Free tier');
    await expect(compute.thisNotebook).not.toContainText('wait their turn');
  });

  await test.step('a move that takes place, once the running cell has ended', async () => {
    await notebook.start(3);
    await expect(notebook.cell(3).locator('.jp-InputPrompt')).toHaveText('[*]:');
    await compute.button('cpu-vm', 'Attach this notebook').click();
    await expect(compute.dialog).toContainText('Those that can be moved then are carried when it has ended.');
    await compute.dialog.getByRole('checkbox', { name: 'Carry variables' }).check();
    await compute.dialog.getByRole('button', { name: 'Move' }).click();
    await notebook.start(1);
    await notebook.start(2);
    await expect(notebook.chip).toHaveText(/^cpu-vm · \w+ · 2 cells wait$/);
    await notebook.untilOn('cpu-vm');
    await expect(notebook.cell(2)).toContainText('[1, 2, 1, 2] False');
    expect(await notebook.output(1)).toBe('[1, 2, 1] False');
  });

  await test.step('back by code, which asks in the page', async () => {
    await notebook.start(4);
    await expect(compute.dialog).toContainText('Carry variables from cpu-vm?');
    await expect(compute.dialog).toContainText('Your yes is kept for this machine.');
    await expect(compute.dialog.getByRole('button', { name: 'Not now' })).toBeFocused();
    expect(await faultsInBothThemes(page, DIALOG)).toEqual([]);
    await picture(page, compute.dialog.locator('.jp-Dialog-content'), 'carry-question');
    await compute.dialog.getByRole('button', { name: 'Carry them' }).click();
    await notebook.untilOn('Free tier');
    await notebook.run(2);
    expect(await notebook.output(2)).toContain('[1, 2, 1, 2, 2] False');
  });
});
