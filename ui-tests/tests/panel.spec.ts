/** The panel and the chip against a real JupyterLab, the emulated Azure and a real SSH server. */
import { ComputePanel } from './compute-panel';
import { expect, test } from './fixtures';
import { NotebookPage } from './notebook-page';

const WHERE = 'import os, socket\nprint(socket.gethostname(), os.getcwd())';

test('the chip moves the notebook too, also in Notebook 7', async ({ page, server }) => {
  server.write('analysis.ipynb', [WHERE]);
  const notebook = new NotebookPage(page, server);
  await notebook.open('analysis.ipynb', 'notebook');
  await notebook.run(0);
  const here = await notebook.output(0);

  await notebook.moveFromChip('cpu-vm');
  await notebook.run(0);
  expect(await notebook.output(0)).not.toBe(here);

  await notebook.chip.click();
  await page.getByRole('menuitem', { name: 'Open Compute' }).click();
  await expect(new ComputePanel(page).state('cpu-vm')).toHaveText('Running analysis.ipynb.');
});

test('a page whose server has no jupyter-dsvm says so and offers nothing else', async ({
  page,
  bareServer
}) => {
  bareServer.write('analysis.ipynb', ['1 + 1']);
  const notebook = new NotebookPage(page, bareServer);
  await notebook.open('analysis.ipynb');
  const compute = new ComputePanel(page);
  await compute.open();
  await expect(compute.panel.getByRole('alert')).toContainText(
    'This Jupyter server has no jupyter-dsvm extension running.'
  );
  await expect(compute.panel.getByRole('button', { name: 'Try again' })).toBeVisible();
  await expect(notebook.chip).toHaveCount(0);
  await notebook.run(0);
  expect(await notebook.output(0)).toBe('2');
});

test('a cookie without its XSRF token changes nothing', async ({ page, server }) => {
  await page.goto(server.address('lab'));
  await page.locator('#jupyter-lab-splash').waitFor({ state: 'detached', timeout: 60_000 });
  // Not there, so that the request which is let through changes nothing either.
  const address = `${server.url}jupyter-dsvm/computes/azure:nobody/stop`;
  const context = page.context();
  const without = await context.request.post(address);
  expect(without.status()).toBe(403);
  const xsrf = (await context.cookies(server.url)).find(cookie => cookie.name === '_xsrf');
  const withToken = await context.request.post(address, { headers: { 'X-XSRFToken': xsrf?.value ?? '' } });
  expect(withToken.status()).toBe(404);
  expect((await withToken.json()).code).toBe('UnknownCompute');
});
