/** Two people in one notebook: moving it moves both, and the dialog says so before. A real jupyter-collaboration. */
import { DIALOG, faults } from './accessibility';
import { ENVIRONMENT, isInstalled } from './collaboration';
import { ComputePanel } from './compute-panel';
import { expect, test } from './fixtures';
import { NotebookPage } from './notebook-page';

test.skip(!isInstalled, 'jupyter-collaboration is not installed');

test.use({ serverOptions: { env: ENVIRONMENT } });

test('moving a notebook that somebody else works in', async ({ page, browser, server }) => {
  server.write('shared.ipynb', ['1 + 1']);
  const mine = new NotebookPage(page, server);
  await mine.open('shared.ipynb');
  // Another browser, so that the server takes it for somebody else.
  const elsewhere = await browser.newContext();
  try {
    const theirs = new NotebookPage(await elsewhere.newPage(), server);
    await theirs.open('shared.ipynb');

    const compute = new ComputePanel(page);
    await compute.open();
    await compute.button('cpu-vm', 'Attach this notebook').click();
    await expect(compute.dialog).toContainText('1 other person works in this notebook, shares its kernel, and moves with you.');
    expect(await faults(page, DIALOG)).toEqual([]);
    await compute.dialog.getByRole('button', { name: 'Move' }).click();
    await mine.untilOn('cpu-vm');
    await theirs.untilOn('cpu-vm');
  } finally {
    await elsewhere.close();
  }
});
