/** What else happens to a page: another tab, another notebook, a server that goes and comes, events that do not arrive. */
import { ComputePanel } from './compute-panel';
import { expect, test } from './fixtures';
import { NotebookPage } from './notebook-page';
import { Wire } from './wire';

test('what one tab begins, the other shows', async ({ page, context, statesServer, statesEmulator }) => {
  await page.goto(statesServer.freshLab());
  const one = new ComputePanel(page);
  await one.open();
  const other = new ComputePanel(await context.newPage());
  await other.page.goto(statesServer.freshLab());
  await other.open();
  await expect(other.card('starting-vm')).toBeVisible();

  await statesEmulator.control('PUT', 'timings', { start: 120 });
  try {
    await one.button('starting-vm', 'Start').click();
    for (const compute of [one, other]) {
      await expect(compute.state('starting-vm')).toHaveText(/^Step \d of \d: /);
    }
    await other.button('starting-vm', 'Stop waiting and release').click();
  } finally {
    await statesEmulator.control('PUT', 'timings', { start: 0.5 });
  }
  for (const compute of [one, other]) {
    await expect(compute.state('starting-vm')).toHaveText(/^Off\. /);
  }
  await other.page.close();
});

test('events that a page has missed', async ({ page, statesServer, statesEmulator }) => {
  const wire = await Wire.to(statesServer.port);
  try {
    await page.goto(statesServer.freshLab().replace(`:${statesServer.port}/`, `:${wire.port}/`));
    const compute = new ComputePanel(page);
    await compute.open();
    await expect(compute.state('starting-vm')).toHaveText(/^Off\. /);
    wire.cut();
    const { computes } = await statesServer.rest<{ computes: { id: string; name: string }[] }>('jupyter-dsvm/computes');
    const id = encodeURIComponent(computes.find(({ name }) => name === 'starting-vm')?.id ?? '');
    await statesEmulator.control('PUT', 'timings', { start: 120 });
    await statesServer.rest(`jupyter-dsvm/computes/${id}/start`, { method: 'POST' });
    wire.mend();
    await expect(compute.state('starting-vm')).toHaveText(/^Step \d of \d: /, { timeout: 60_000 });
    await compute.button('starting-vm', 'Stop waiting and release').click();
    await expect(compute.state('starting-vm')).toHaveText(/^Off\. /);
  } finally {
    await statesEmulator.control('PUT', 'timings', { start: 0.5 });
    await wire.end();
  }
});

test('two notebooks on one machine, and a server that is started again', async ({ page, context, server }) => {
  const tabs: [NotebookPage, ComputePanel][] = [];
  for (const name of ['first', 'second']) {
    server.write(`${name}.ipynb`, ['1 + 1']);
    const tab = name === 'first' ? page : await context.newPage();
    const notebook = new NotebookPage(tab, server);
    const compute = new ComputePanel(tab);
    await notebook.open(`${name}.ipynb`, 'lab', name);
    await compute.open();
    tabs.push([notebook, compute]);
  }
  const [[first, one], [second, two]] = tabs;

  await test.step('both are named on its card, and each can return', async () => {
    await first.moveFromChip('cpu-vm');
    await second.moveFromChip('cpu-vm');
    for (const compute of [one, two]) {
      await expect(compute.state('cpu-vm')).toHaveText(/^Running (first|second)\.ipynb and (first|second)\.ipynb\./);
      await expect(compute.button('cpu-vm', 'Return to free tier')).toBeVisible();
    }
  });

  await test.step('stopping it names both', async () => {
    await one.choose('cpu-vm', /^Stop/);
    await expect(one.dialog).toContainText('first.ipynb');
    await expect(one.dialog).toContainText('second.ipynb');
    await one.dialog.getByRole('button', { name: 'Cancel' }).click();
  });

  await test.step('the server goes, and comes again', async () => {
    // JupyterLab's own, which a person closes.
    const lost = page.getByRole('dialog', { name: /^Server Connection Error/ });
    await page.addLocatorHandler(lost, dialog => dialog.getByRole('button').last().click());
    await second.page.close();
    await server.kill();
    await server.startAgain();
    await first.untilOn('cpu-vm', 90_000);
    await expect(one.state('cpu-vm')).toContainText('first.ipynb', { timeout: 60_000 });
    await one.refresh();
    await expect(one.panel.getByRole('alert')).toHaveCount(0);
  });

  await test.step('one of them returns', async () => {
    await first.moveFromChip('Free tier');
    await expect(one.state('cpu-vm')).toHaveText(/^Running second\.ipynb\./);
  });
});
