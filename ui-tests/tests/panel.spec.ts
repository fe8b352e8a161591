/** The panel and the chip against a real JupyterLab, the emulated Azure and a real SSH server. */
import { DIALOG, faults, faultsInBothThemes, MENU, PANEL } from './accessibility';
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

  const compute = new ComputePanel(page);
  await notebook.chip.click();
  expect(await faults(page, MENU)).toEqual([]);
  await page.getByRole('menuitem', { name: 'Open Compute' }).click();
  await expect(compute.state('cpu-vm')).toContainText('Running analysis.ipynb.');
  expect(await faultsInBothThemes(page, PANEL, '.jp-Dsvm-chip')).toEqual([]);

  await test.step('the panel moves it back', async () => {
    await compute.button('cpu-vm', 'Return to free tier').click();
    await expect(compute.dialog.getByRole('button', { name: 'Move' })).toBeFocused();
    expect(await faultsInBothThemes(page, DIALOG)).toEqual([]);
    await page.keyboard.press('Enter');
    await notebook.untilOn('Free tier');
  });
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

test('without a token nothing is told, and a cookie without its XSRF token changes nothing', async ({
  page,
  server
}) => {
  // As all tests' servers: neither check is turned off, by an argument or by a file.
  for (const route of ['computes', 'kernels', 'operations', 'signin']) {
    expect((await fetch(`${server.url}jupyter-dsvm/${route}`)).status, route).toBe(403);
  }
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
