/** Two people in one notebook: moving it moves both, and the dialog says so before. A real jupyter-collaboration. */
import * as fs from 'fs';
import * as path from 'path';

import { DIALOG, faults } from './accessibility';
import { ComputePanel } from './compute-panel';
import { expect, test } from './fixtures';
import { NotebookPage } from './notebook-page';
import { ROOT } from './processes';

/** Where `make test-ui` puts it; beside the environment of all other tests, which are to run without it. */
const INSTALLED = path.join(ROOT, '.stamps', 'collaboration');

test.skip(!fs.existsSync(path.join(INSTALLED, 'done')), 'jupyter-collaboration is not installed');

test.use({
  serverOptions: {
    env: {
      PYTHONPATH: INSTALLED,
      JUPYTER_PATH: path.join(INSTALLED, 'share', 'jupyter'),
      JUPYTER_CONFIG_PATH: path.join(INSTALLED, 'etc', 'jupyter')
    }
  }
});

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
