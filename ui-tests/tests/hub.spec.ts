/** A student's way on a hub: log in, see the machines, attach, run, come back. A real JupyterHub behind its own proxy. */
import * as fs from 'fs';

import { ComputePanel } from './compute-panel';
import { expect, test } from './fixtures';
import { Hub, logIn, PROXY } from './hub';
import { NotebookPage } from './notebook-page';

test.skip(!fs.existsSync(PROXY), 'configurable-http-proxy is not installed');

const WHERE = 'import os\nprint(os.environ.get("DSVM_NAME", "here"))';

test('a student logs in, attaches, runs and returns', async ({ page, emulator }, testInfo) => {
  test.setTimeout(400_000);
  const hub = await Hub.start(emulator);
  try {
    hub.write('ada', 'lesson/first.ipynb', [WHERE]);

    await test.step('she logs in, and the hub starts her server', async () => {
      await page.goto(hub.url);
      await logIn(page, 'ada');
      await page.waitForURL(/\/class\/user\/ada\/lab/, { timeout: 120_000 });
    });

    const server = await hub.serverOf('ada');
    const notebook = new NotebookPage(page, server);
    const compute = new ComputePanel(page);
    await notebook.open('lesson/first.ipynb');
    await compute.open();

    await test.step('the panel has her machines, and the hub’s limit on memory', async () => {
      await expect(compute.thisNotebook).toContainText('first.ipynb runs on Free tier');
      await expect(compute.thisNotebook).toContainText('of 4 GB');
      await expect(compute.state('cpu-vm')).toHaveText('On. Nothing attached.');
      await expect(compute.card('gpu-vm')).toContainText('4 CPU · 28 GB · 1 × T4');
    });
    await notebook.run(0);
    expect(await notebook.output(0)).toBe('here');

    await compute.move('cpu-vm', 'Attach this notebook');
    await notebook.untilOn('cpu-vm');
    await notebook.run(0);
    expect(await notebook.output(0)).toBe('cpu-vm');

    await test.step('the same in Notebook 7', async () => {
      await notebook.open('lesson/first.ipynb', 'notebook');
      await notebook.untilOn('cpu-vm');
      await notebook.run(0);
      expect(await notebook.output(0)).toBe('cpu-vm');
      await notebook.open('lesson/first.ipynb');
    });

    await test.step('and back', async () => {
      await compute.open();
      await compute.move('cpu-vm', 'Return to free tier');
      await notebook.untilOn('Free tier');
      await notebook.run(0);
      expect(await notebook.output(0)).toBe('here');
    });

    await test.step('another student’s server is shut to her', async () => {
      await hub.spawn('bob');
      const answer = await page.goto(`${hub.url}user/bob/jupyter-dsvm/computes`);
      expect(answer?.status()).toBe(403);
    });

    const kernels = await server.rest<{ id: string }[]>('api/kernels');
    await Promise.all(kernels.map(({ id }) => server.rest(`api/kernels/${id}`, { method: 'DELETE' })));
  } finally {
    await testInfo.attach('hub.log', { body: hub.program.logTail(100_000), contentType: 'text/plain' });
    await hub.end();
  }
});
