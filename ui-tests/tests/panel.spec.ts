/** The panel and the chip against a real JupyterLab, the emulated Azure and a real SSH server. */
import { ComputePanel } from './compute-panel';
import { expect, test } from './fixtures';
import { NotebookPage } from './notebook-page';

const WHERE = 'import os, socket\nprint(socket.gethostname(), os.getcwd())';

test('the notebook moves to a machine that was off, and back', async ({ page, server }) => {
  server.write('analysis.ipynb', ['x = 42', WHERE]);
  const notebook = new NotebookPage(page, server);
  const compute = new ComputePanel(page);
  await notebook.open('analysis.ipynb');
  await compute.open();

  await test.step('the panel says where the notebook runs, and shows the machines', async () => {
    await expect(compute.thisNotebook).toContainText('analysis.ipynb runs on Free tier');
    await expect(notebook.chip).toContainText('Free tier');
    await expect(compute.state('cpu-vm')).toHaveText('On. Nothing attached.');
    await expect(compute.state('gpu-vm')).toHaveText('Off. Only its disk is still billed.');
    await expect(compute.card('gpu-vm')).toContainText('4 CPU · 28 GB · 1 × T4');
    await expect(compute.state('old-vm')).toContainText('still billed');
    await expect(compute.button('old-vm', 'Release')).toBeVisible();
    await expect(compute.state('win-vm')).toContainText('notebooks cannot run on Windows yet');
    await expect(compute.button('win-vm', 'Attach this notebook')).toHaveCount(0);
  });

  await notebook.run(0);
  await notebook.run(1);
  const here = await notebook.output(1);

  await test.step('the dialog says what a move does; Esc leaves everything as it is', async () => {
    await compute.button('gpu-vm', 'Start and attach').click();
    await expect(compute.dialog).toContainText('Move analysis.ipynb to gpu-vm?');
    await expect(compute.dialog).toContainText('gpu-vm is off. It is started first');
    await expect(compute.dialog).toContainText('Variables are not carried');
    await expect(compute.dialog).toContainText('JavaScript');
    await expect(compute.dialog.getByRole('button', { name: 'Move' })).toBeFocused();
    await page.keyboard.press('Escape');
    await expect(compute.dialog).toHaveCount(0);
    await expect(compute.state('gpu-vm')).toHaveText('Off. Only its disk is still billed.');
  });

  await test.step('attach starts the machine, step by step', async () => {
    await compute.move('gpu-vm', 'Start and attach');
    await expect(compute.state('gpu-vm')).toContainText('Step 1 of 4');
    await expect(notebook.chip).toContainText('gpu-vm · starting 1 of 4');
    await expect(compute.thisNotebook).toContainText('is moving to gpu-vm');
    await expect(compute.button('gpu-vm', 'Cancel')).toBeVisible();
    await expect(compute.steps('gpu-vm', 'done').first()).toBeVisible({ timeout: 60_000 });
    await notebook.untilOn('gpu-vm · T4');
    await expect(compute.state('gpu-vm')).toHaveText('Running analysis.ipynb.');
    await expect(page.getByText(/^Moved to gpu-vm in /).first()).toBeVisible();
  });

  await test.step('the next cell runs there, without the variables', async () => {
    await notebook.run(1);
    expect(await notebook.output(1)).not.toBe(here);
    expect(await notebook.count(1)).toBe(1);
  });

  await test.step('return to the free tier', async () => {
    await compute.move('gpu-vm', 'Return to free tier');
    await notebook.untilOn('Free tier');
    await notebook.run(1);
    expect(await notebook.output(1)).toBe(here);
  });
});

test('the chip moves the notebook too, also in Notebook 7', async ({ page, server }) => {
  server.write('analysis.ipynb', [WHERE]);
  const notebook = new NotebookPage(page, server);
  await notebook.open('analysis.ipynb', 'notebook');
  await notebook.run(0);
  const here = await notebook.output(0);

  await notebook.chip.click();
  await page.getByRole('menuitem', { name: /^cpu-vm/ }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Move' }).click();
  await notebook.untilOn('cpu-vm');
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
