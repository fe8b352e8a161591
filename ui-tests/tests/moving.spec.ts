/** A notebook moves, as people see it: a real JupyterLab, the emulated Azure and a real SSH server. */
import { Locator } from '@playwright/test';
import * as path from 'path';

import { Channels } from './channels';
import { ComputePanel } from './compute-panel';
import { expect, test } from './fixtures';
import { NotebookPage } from './notebook-page';
import { ROOT } from './processes';

const SAMPLE = path.join(ROOT, 'jupyter_dsvm', 'emulator', 'sample', 'digits.ipynb');

/** The README's picture; `DSVM_SCREENSHOTS=1` takes it anew. */
const PICTURE = path.join(ROOT, 'docs', 'images', 'panel.png');

/** As root, each emulated machine has a host name of its own; otherwise only its folders differ. */
const HAS_HOSTS = process.getuid?.() === 0;

const WHERE = 'import os, socket\nprint(socket.gethostname(), os.path.expanduser("~"))';

test('the sample notebook moves to a machine that was off, and back', async ({ page, server }) => {
  test.setTimeout(300_000);
  const takesPicture = process.env.DSVM_SCREENSHOTS === '1';
  if (takesPicture) {
    await page.setViewportSize({ width: 1280, height: 800 });
  }
  server.copy(SAMPLE);
  await server.turnOff('gpu-vm');
  const channels = new Channels(page);
  const notebook = new NotebookPage(page, server);
  const compute = new ComputePanel(page);
  await notebook.open('digits.ipynb');
  await compute.open();

  await test.step('the panel says where the notebook runs, and shows the machines', async () => {
    await expect(compute.thisNotebook).toContainText('digits.ipynb runs on Free tier');
    await expect(notebook.chip).toContainText('Free tier');
    await expect(compute.state('cpu-vm')).toHaveText(/^On\. Nothing attached\./);
    await expect(compute.state('gpu-vm')).toHaveText('Off. Disk and static address still cost a little.');
    await expect(compute.card('gpu-vm')).toContainText('4 CPU · 28 GB · 1 × T4');
    await expect(compute.state('old-vm')).toContainText('still billed');
    await expect(compute.button('old-vm', 'Release')).toBeVisible();
    await expect(compute.state('win-vm')).toContainText('notebooks cannot run there yet');
    await expect(compute.button('win-vm', 'Attach this notebook')).toHaveCount(0);
  });

  await notebook.runAll();
  expect(await notebook.output(1)).toMatch(/^accuracy: 0\.9\d+$/);
  const here = place(await notebook.output(2));
  const opened = channels.opened;

  await test.step('the dialog says what a move does; Esc leaves everything as it is', async () => {
    await compute.button('gpu-vm', 'Start and attach').click();
    await expect(compute.dialog).toContainText('Move digits.ipynb to gpu-vm?');
    await expect(compute.dialog).toContainText('gpu-vm is off. It is started first');
    await expect(compute.dialog.getByRole('checkbox', { name: /^Carry variables \(8 · / })).toBeVisible();
    await expect(compute.dialog).toContainText('JavaScript');
    await expect(compute.dialog.getByRole('button', { name: 'Move' })).toBeFocused();
    await page.keyboard.press('Escape');
    await expect(compute.dialog).toHaveCount(0);
    await expect(compute.state('gpu-vm')).toHaveText('Off. Disk and static address still cost a little.');
  });

  await test.step('attach starts the machine, step by step', async () => {
    const asked = channels.kernelInfoRequests;
    await compute.button('gpu-vm', 'Start and attach').click();
    await compute.dialog.getByRole('checkbox', { name: /^Carry variables \(/ }).uncheck();
    await compute.dialog.getByRole('button', { name: 'Move' }).click();
    await expect(compute.state('gpu-vm')).toContainText('Step 1 of 6');
    await expect(page.getByText(/^Moving digits\.ipynb to gpu-vm\. Step 1 of 6: /).first()).toBeVisible();
    await expect(notebook.chip).toContainText('gpu-vm · starting 1 of 6');
    await expect(compute.thisNotebook).toContainText('is moving to gpu-vm');
    await expect(compute.button('gpu-vm', 'Cancel')).toBeVisible();
    await expect(compute.steps('gpu-vm', 'done').first()).toBeVisible({ timeout: 90_000 });
    await notebook.untilOn('gpu-vm · T4', 90_000);
    await expect(compute.state('gpu-vm')).toHaveText('Running digits.ipynb.');
    await expect(page.getByText(/^Moved to gpu-vm in /).first()).toBeVisible();
    await expect
      .poll(() => channels.kernelInfoRequests, { message: 'the page asks the new kernel what it is' })
      .toBeGreaterThan(asked);
  });

  await test.step('the same cells run there, without the variables of before', async () => {
    await notebook.run(1);
    expect(await notebook.output(1)).toContain("NameError: name 'train_x' is not defined");
    expect(await notebook.count(1)).toBe(1);
    await notebook.runAll();
    expect(await notebook.output(1)).toMatch(/^accuracy: 0\.9\d+$/);
    const there = await notebook.output(2);
    expect(place(there)).not.toBe(here);
    expect(there).toMatch(/^free memory: \d+\.\d GiB$/m);
    if (HAS_HOSTS) {
      expect(there).toMatch(/^host: gpu-vm$/m);
    }
  });

  if (takesPicture) {
    await page
      .getByText(/^Moved to gpu-vm in /)
      .first()
      .waitFor({ state: 'hidden' });
    await notebook.cell(1).evaluate(node => node.scrollIntoView({ block: 'start' }));
    await page.screenshot({ path: PICTURE });
  }

  await test.step('return to the free tier', async () => {
    await compute.move('gpu-vm', 'Return to free tier');
    await notebook.untilOn('Free tier');
    await expect(compute.state('gpu-vm')).toHaveText(/^On\. Nothing attached\./);
    await notebook.runAll();
    expect(place(await notebook.output(2))).toBe(here);
  });

  expect([channels.opened, channels.closed], 'websockets opened and closed').toEqual([opened, 0]);
});

test('Run All goes on at the machine that its second cell attaches', async ({ page, server }) => {
  test.setTimeout(300_000);
  server.write('all.ipynb', [
    `before = 1\n${WHERE}`,
    '%dsvm attach gpu-vm',
    `ran = [1]\n${WHERE}`,
    'ran.append(2)\nprint(ran, "before" in globals())',
    `ran.append(3)\nprint(ran)\n${WHERE}`
  ]);
  await server.turnOff('gpu-vm');
  const channels = new Channels(page);
  const notebook = new NotebookPage(page, server);
  await notebook.open('all.ipynb');
  const opened = channels.opened;
  let loads = 0;
  page.on('load', () => (loads += 1));

  await notebook.runAll(150_000);
  expect(await notebook.output(1)).toContain('gpu-vm');
  const here = await notebook.output(0);
  const there = await notebook.output(2);
  expect(there).not.toBe(here);
  if (HAS_HOSTS) {
    expect(there).toMatch(/^gpu-vm /);
  }
  expect(await notebook.output(3)).toBe('[1, 2] False');
  expect(await notebook.output(4)).toBe(`[1, 2, 3]\n${there}`);
  const counts = [0, 1, 2, 3, 4].map(index => notebook.count(index));
  expect(await Promise.all(counts), 'each prompt counts for the kernel that ran it').toEqual([1, 2, 1, 2, 3]);
  await notebook.untilOn('gpu-vm · T4');
  expect([loads, channels.opened, channels.closed], 'loads, websockets opened and closed').toEqual([
    0,
    opened,
    0
  ]);
});

test('a slider made after the move works, and one from before does no harm', async ({ page, server }) => {
  const slider = (name: string): string =>
    `from ipywidgets import IntSlider\n${name} = IntSlider(value=3, description="${name}")\n${name}`;
  server.write('sliders.ipynb', [
    slider('before'),
    'print(before.value)',
    slider('after'),
    `print(after.value)\n${WHERE}`
  ]);
  const faults: string[] = [];
  page.on('pageerror', error => faults.push(String(error)));
  const notebook = new NotebookPage(page, server);
  await notebook.open('sliders.ipynb');
  const handle = (index: number): Locator => notebook.cell(index).getByRole('slider');

  await notebook.run(0);
  await handle(0).press('ArrowRight');
  await expect(handle(0)).toHaveAttribute('aria-valuenow', /^4(\.0)?$/);
  await notebook.run(1);
  expect(await notebook.output(1)).toBe('4');

  await notebook.moveFromChip('cpu-vm');

  await test.step('one from before', async () => {
    // Whether it is still shown is the widget manager's business.
    if (await handle(0).isVisible()) {
      await handle(0).press('ArrowRight');
    }
    await notebook.run(1);
    expect(await notebook.output(1)).toContain("NameError: name 'before' is not defined");
  });

  await test.step('one made there', async () => {
    await notebook.run(2);
    await handle(2).press('ArrowRight');
    await handle(2).press('ArrowRight');
    await expect(handle(2)).toHaveAttribute('aria-valuenow', /^5(\.0)?$/);
    await notebook.run(3);
    const [value, there] = (await notebook.output(3)).split('\n');
    expect(value).toBe('5');
    if (HAS_HOSTS) {
      expect(there).toMatch(/^cpu-vm /);
    }
  });

  await expect(page.getByRole('dialog')).toHaveCount(0);
  expect(faults).toEqual([]);
});

/** The lines of the sample's last cell that say where it ran. */
function place(output: string): string {
  return output
    .split('\n')
    .filter(line => /^(host|home): /.test(line))
    .join('\n');
}
