/** Variables that go along with a move, come back after a yes, and cells that wait meanwhile. Real kernels, real SSH. */
import { DIALOG, faultsInBothThemes, TOAST } from './accessibility';
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
    await picture(page, moved, 'carried');
    await notebook.run(1);
    expect(await notebook.output(1)).toBe('[1, 2, 42] True 3 False');
  });

  await test.step('undone, with what they are now', async () => {
    // It may have gone from the screen meanwhile, to the list behind the bell.
    if (!(await moved.isVisible())) {
      await page.getByRole('button', { name: /notification/ }).last().click();
    }
    await page.getByRole('button', { name: 'Undo' }).first().click();
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
