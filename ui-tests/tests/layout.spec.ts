/** Little room: a sidebar of 240 pixels, a page at 200 %, names as long as Azure lets them be. Nothing is cut off. */
import { Page } from '@playwright/test';

import { cutOff, DIALOG, faults, leave, PANEL } from './accessibility';
import { ComputePanel } from './compute-panel';
import { expect, test } from './fixtures';
import { NotebookPage } from './notebook-page';
import { picture } from './pictures';
import { LONG_NAMES } from './scenarios';

/** That the dialog which is open fits, and its buttons can be reached. */
async function expectDialogFits(page: Page, compute: ComputePanel): Promise<void> {
  const content = compute.dialog.locator('.jp-Dialog-content').or(compute.dialog).first();
  await expect(compute.dialog.locator('.jp-Dialog-footer button').last()).toBeInViewport({ ratio: 1 });
  expect(await cutOff(content)).toEqual([]);
  await leave(page, DIALOG);
}

test('a sidebar of 240 pixels', async ({ page, statesServer, statesEmulator }) => {
  statesServer.write('narrow.ipynb', ['1 + 1']);
  await new NotebookPage(page, statesServer).open('narrow.ipynb');
  const compute = new ComputePanel(page);
  await compute.open();
  await compute.narrow();
  expect((await compute.panel.boundingBox())?.width).toBeLessThanOrEqual(241);

  await test.step('a problem', async () => {
    await compute.choose('scarce-vm', /^Start/);
    await expect(compute.button('scarce-vm', 'Dismiss')).toBeVisible();
    await compute.card('scarce-vm').getByText('What Azure said').click();
    expect(await cutOff(compute.panel)).toEqual([]);
    await compute.button('scarce-vm', 'Dismiss').click();
  });

  await test.step('an operation', async () => {
    await statesEmulator.control('PUT', 'timings', { start: 120 });
    await compute.choose('starting-vm', /^Start/);
    await expect(compute.button('starting-vm', 'Stop waiting and release')).toBeVisible();
    await statesEmulator.control('PUT', 'timings', { start: 0.5 });
    expect(await cutOff(compute.panel)).toEqual([]);
    await compute.button('starting-vm', 'Stop waiting and release').click();
    await expect(compute.state('starting-vm')).toHaveText(/^Off\. /);
  });
  await picture(page, compute.panel, 'narrow');
});

test.describe('at 200 %', () => {
  // What a browser of 1280 by 900 gives a page then.
  test.use({ viewport: { width: 640, height: 450 }, deviceScaleFactor: 2 });

  test('the panel and the dialogs', async ({ page, statesServer }) => {
    statesServer.write('zoomed.ipynb', ['1 + 1']);
    await new NotebookPage(page, statesServer).open('zoomed.ipynb');
    const compute = new ComputePanel(page);
    await compute.open();
    await expect(compute.card('off-vm')).toBeVisible();
    expect(await cutOff(compute.panel)).toEqual([]);
    await compute.button('off-vm', 'Start and attach').click();
    await expectDialogFits(page, compute);
    await compute.choose('on-vm', /^Resize/);
    await expect(compute.dialog.getByRole('radio').first()).toBeVisible();
    await expectDialogFits(page, compute);
    await compute.openCreate('Lab', 'westeurope');
    await expectDialogFits(page, compute);
  });
});

test('very long names', async ({ page, startEmulator, startServer }) => {
  const server = await startServer(await startEmulator(LONG_NAMES));
  const name = `${'a notebook with quite a long name '.repeat(5).trim()}.ipynb`;
  server.write(name, ['1 + 1']);
  await new NotebookPage(page, server).open(name);
  const compute = new ComputePanel(page);
  await compute.open();
  await compute.narrow();
  for (const { name } of LONG_NAMES.machines) {
    await expect(compute.card(name)).toBeVisible();
    await expect(compute.card(name).getByRole('heading')).toHaveText(new RegExp(`^${name}`));
  }
  expect(await cutOff(compute.panel)).toEqual([]);
  expect(await faults(page, PANEL)).toEqual([]);
  await picture(page, compute.panel, 'long-names');
  await compute.button(LONG_NAMES.machines[0].name, 'Start and attach').click();
  await expectDialogFits(page, compute);
});
