/** Two people in one notebook on a hub: a server that is shared, a real jupyter-collaboration, and the hub's own proxy. */
import * as fs from 'fs';

import { ENVIRONMENT, isInstalled } from './collaboration';
import { ComputePanel } from './compute-panel';
import { expect, test } from './fixtures';
import { Hub, logIn, PROXY } from './hub';
import { NotebookPage } from './notebook-page';

test.skip(!fs.existsSync(PROXY), 'configurable-http-proxy is not installed');
test.skip(!isInstalled, 'jupyter-collaboration is not installed');

/** A server with an open room of jupyter-server-ydoc 3.0 does not end by itself, with nothing of ours too: the hub ends it by force. */
const CONFIGURATION = 'c.Spawner.interrupt_timeout = c.Spawner.term_timeout = c.Spawner.kill_timeout = 1';

const WHERE = 'import os\nprint(os.environ.get("DSVM_NAME", "here"))';
const THREE = 'for number in range(3):\n    print("line", number)';

test('a notebook that two people share moves with both', async ({ page, browser, emulator }, testInfo) => {
  test.setTimeout(400_000);
  const hub = await Hub.start(emulator, ENVIRONMENT, CONFIGURATION);
  const elsewhere = await browser.newContext();
  try {
    hub.write('ada', 'lesson/shared.ipynb', [WHERE, THREE]);
    await page.goto(hub.url);
    await logIn(page, 'ada');
    await page.waitForURL(/\/class\/user\/ada\/lab/, { timeout: 120_000 });
    const server = await hub.serverOf('ada');
    const hers = new NotebookPage(page, server);
    await hers.open('lesson/shared.ipynb');

    const other = await elsewhere.newPage();
    const his = new NotebookPage(other, server);
    await test.step('he comes in where she lets him in', async () => {
      await hub.share('ada', 'bob');
      await other.goto(server.address('lab'));
      await logIn(other, 'bob');
      await other.getByRole('button', { name: 'Authorize' }).click();
      await other.waitForURL(/\/class\/user\/ada\/lab/);
      await his.open('lesson/shared.ipynb');
      await his.untilOn('Free tier');
    });

    const compute = new ComputePanel(page);
    await compute.open();
    await compute.button('cpu-vm', 'Attach this notebook').click();
    await expect(compute.dialog).toContainText('1 other person works in this notebook, shares its kernel, and moves with you.');
    await compute.dialog.getByRole('button', { name: 'Move' }).click();
    await hers.untilOn('cpu-vm');
    await his.untilOn('cpu-vm');

    await test.step('what one of them runs both have, once', async () => {
      await hers.run(0);
      await his.run(1);
      for (const notebook of [hers, his]) {
        await expect.poll(() => notebook.output(0)).toBe('cpu-vm');
        await expect.poll(() => notebook.output(1)).toBe('line 0\nline 1\nline 2');
      }
    });

    await test.step('he is a guest: he spends nothing of hers', async () => {
      await his.chip.click();
      await other.getByRole('menuitem', { name: /^Free tier/ }).click();
      await other.getByRole('dialog').getByRole('button', { name: 'Move' }).click();
      await expect(other.getByText('bob is a guest on the server of ada')).toBeVisible();
    });

    await compute.move('cpu-vm', 'Return to free tier');
    await hers.untilOn('Free tier');
    await his.untilOn('Free tier');
    await hers.run(0);
    for (const notebook of [hers, his]) {
      await expect.poll(() => notebook.output(0)).toBe('here');
      await expect.poll(() => notebook.output(1)).toBe('line 0\nline 1\nline 2');
    }
    await elsewhere.close();

    await test.step('Notebook 7, from its list of files', async () => {
      await page.goto(server.address('tree/lesson'));
      const opened = page.waitForEvent('popup');
      await page.getByRole('listitem', { name: /^Name: shared\.ipynb/ }).dblclick();
      const seven = await opened;
      await seven.waitForURL(/\/class\/user\/ada\/notebooks\/lesson\/shared\.ipynb/);
      const notebook = new NotebookPage(seven, server);
      await notebook.untilOn('Free tier');
      await notebook.moveFromChip('cpu-vm');
      await notebook.run(0);
      expect(await notebook.output(0)).toBe('cpu-vm');
      await notebook.chip.click();
      await seven.getByRole('menuitem', { name: 'Open Compute' }).click();
      const panel = new ComputePanel(seven);
      await expect(panel.state('cpu-vm')).toContainText('Running shared.ipynb.');
      await panel.move('cpu-vm', 'Return to free tier');
      await notebook.untilOn('Free tier');
    });
  } finally {
    await elsewhere.close();
    await page.context().close();
    await testInfo.attach('hub.log', { body: hub.program.logTail(100_000), contentType: 'text/plain' });
    await hub.end();
  }
});
