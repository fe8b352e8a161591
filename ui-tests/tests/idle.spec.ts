/** A machine that nobody uses is stopped, and a person can say otherwise: panel, toolbar, status bar, notifications. */
import { Locator } from '@playwright/test';

import { cutOff, DIALOG, faultsInBothThemes, leave, PANEL, TOAST } from './accessibility';
import { ComputePanel } from './compute-panel';
import { expect, test } from './fixtures';
import { NotebookPage } from './notebook-page';
import { picture } from './pictures';

/** Emulated machines share this computer's processors, disks and network: what runs beside the test is no activity there. */
const IGNORED = ['cpu', 'gpu', 'disk', 'network'].map(kind => `--DSVMService.idle_ignore=${kind}`);

test.use({ actionTimeout: 20_000, serverOptions: { args: ['--DSVMService.idle_check_seconds=1', ...IGNORED] } });

/** Choose when a machine is stopped, in its dialog. */
async function choose(compute: ComputePanel, minutes: number, endKeep = false): Promise<void> {
  await compute.choose('gpu-vm', /^Auto-stop/);
  await compute.dialog.getByLabel('Stop it after a while').check();
  await compute.dialog.getByLabel('Minutes').fill(String(minutes));
  if (endKeep) {
    await compute.dialog.getByLabel('No longer keep it on').check();
  }
  await compute.dialog.getByRole('button', { name: 'Save' }).click();
  await expect(compute.dialog).toHaveCount(0);
}

test('a machine that nobody uses', async ({ page, context, server, emulator }) => {
  test.setTimeout(420_000);
  await server.turnOff('gpu-vm');
  server.write('idle.ipynb', ['x = 1', 'import time\ntime.sleep(600)', '"x" in globals()']);
  const notebook = new NotebookPage(page, server);
  const compute = new ComputePanel(page);
  const status = page.locator('.jp-Dsvm-status');
  const toast = (text: string | RegExp): Locator => page.locator(TOAST).filter({ hasText: text });
  await notebook.open('idle.ipynb');
  await compute.open();
  await compute.move('gpu-vm', 'Start and attach');
  await notebook.untilOn('gpu-vm', 120_000);
  await notebook.run(0);

  await test.step('counts down once nothing runs', async () => {
    await expect(compute.card('gpu-vm')).toContainText(/Running idle\.ipynb\. Stops in (30|29) min\./, { timeout: 60_000 });
    await expect(compute.state('gpu-vm')).toHaveText('Running idle.ipynb.'); // nothing that is said anew every minute
    await expect(status).toContainText(/gpu-vm · .*stops in (30|29) min/);
    await expect(notebook.chip).toHaveAttribute('title', /stops at \d+:\d\d/);
    await expect(toast('stops at')).toHaveCount(0);
  });

  await test.step('does not while a cell runs', async () => {
    await notebook.start(1);
    await expect(compute.card('gpu-vm')).not.toContainText('Stops in');
    await expect(status).not.toContainText('stops in');
    await page.getByRole('menuitem', { name: 'Kernel', exact: true }).click();
    await page.getByRole('menuitem', { name: /^Interrupt Kernel/ }).click();
    await notebook.untilIdle();
    await expect(compute.card('gpu-vm')).toContainText('Stops in');
  });

  await test.step('can be stopped earlier, or never', async () => {
    await compute.choose('gpu-vm', /^Auto-stop/);
    await expect(compute.dialog).toContainText('When is gpu-vm stopped by itself?');
    await expect(compute.dialog.getByLabel('Minutes')).toHaveValue('30');
    await picture(page, page.locator('.jp-Dialog-content'), 'auto-stop');
    expect(await faultsInBothThemes(page, DIALOG)).toEqual([]);
    expect(await cutOff(page.locator('.jp-Dialog-content'))).toEqual([]);
    await compute.dialog.getByLabel('Minutes').fill('');
    await compute.dialog.getByRole('button', { name: 'Save' }).click();
    await expect(compute.dialog).toContainText('Enter a number that is greater than 0.');
    await compute.dialog.getByLabel('Minutes').fill('0.01');
    await compute.dialog.getByRole('button', { name: 'Save' }).click();
    await expect(compute.dialog.getByRole('alert')).toBeVisible(); // the server's own limit, in its words
    await compute.dialog.getByLabel(/^Never stop it/).check();
    await compute.dialog.getByRole('button', { name: 'Save' }).click();
    await expect(compute.dialog).toHaveCount(0);
    await expect(compute.card('gpu-vm')).not.toContainText('Stops in');
    await choose(compute, 20);
    await expect(compute.card('gpu-vm')).toContainText(/Stops in (20|19|18) min/);
  });

  await test.step('says so before it stops, in the pages concerned', async () => {
    const other = await context.newPage();
    await other.goto(server.freshLab());
    await new ComputePanel(other).open();
    await choose(compute, 5);
    await expect(compute.card('gpu-vm')).toHaveAttribute('data-state', 'idleSoon');
    await expect(compute.card('gpu-vm')).toContainText(/No activity\. Stops in [345] min\./);
    await expect(compute.state('gpu-vm')).toHaveText(/^No activity\. Stops at \d+:\d\d/);
    await expect(notebook.chip).toHaveText(/gpu-vm · stops in [345] min/);
    // One, once another that is on its way out is gone: a reading that was under way had still gone by the earlier minutes.
    const notice = /gpu-vm stops at .*, because nothing runs there\. Variables that cannot be saved are lost then\./;
    await expect(toast(notice)).toHaveCount(1);
    await picture(page, compute.card('gpu-vm'), 'idle-soon');
    await picture(page, toast('gpu-vm stops at'), 'idle-notice');
    expect(await faultsInBothThemes(page, PANEL, '.jp-Dsvm-chip', '.jp-Dsvm-status', TOAST)).toEqual([]);
    await expect(new ComputePanel(other).card('gpu-vm')).toContainText('No activity.');
    await expect(other.locator(TOAST)).toHaveCount(0); // it has no notebook there
    await other.close();
  });

  await test.step('is kept on from the status bar, without a mouse', async () => {
    await status.getByRole('button', { name: 'Keep on 1 h' }).focus();
    await page.keyboard.press('Enter');
    await expect(compute.state('gpu-vm')).toHaveText(/^Running idle\.ipynb\. Kept on until \d+:\d\d/);
    await expect(toast('stops at')).toHaveCount(0);
    await expect(status.getByRole('button', { name: 'Keep on 1 h' })).toHaveCount(0);
    await picture(page, compute.card('gpu-vm'), 'kept-on');
    await notebook.chip.click();
    await expect(page.getByRole('menuitem', { name: 'Keep on 1 h' })).toBeVisible();
    await leave(page, '.lm-Menu');
  });

  await test.step('fits into 240 pixels', async () => {
    await compute.narrow();
    await choose(compute, 5, true);
    await expect(compute.card('gpu-vm')).toHaveAttribute('data-state', 'idleSoon');
    expect(await cutOff(compute.panel)).toEqual([]);
    await compute.button('gpu-vm', 'Keep on 1 h').click();
    await expect(compute.state('gpu-vm')).toContainText('Kept on until');
  });

  await test.step('is stopped in the end; why, and where the notebook is, is said', async () => {
    await emulator.control('PUT', 'timings', { deallocate: 0.5 });
    await choose(compute, 1, true);
    await expect(compute.card('gpu-vm')).toHaveAttribute('data-state', 'idleSoon');
    await expect(compute.state('gpu-vm')).toHaveText(/^Off\. /, { timeout: 120_000 });
    await notebook.untilOn('Free tier');
    await expect(toast(/gpu-vm was stopped after/)).toContainText(/idle\.ipynb/);
    await expect(toast(/gpu-vm stops at/)).toHaveCount(0);
    await notebook.run(2);
    expect(await notebook.output(2)).toMatch(/gpu-vm was stopped after[\s\S]*False/);
  });

  await test.step('has saved the variables, which are loaded once it is attached again', async () => {
    const saved = compute.panel.getByRole('group', { name: 'Saved variables' });
    await expect(saved).toContainText('1 variable was saved when gpu-vm stopped (');
    await expect(saved).toContainText('They can be loaded once the notebook runs on gpu-vm again.');
    expect(await cutOff(compute.panel)).toEqual([]);
    await compute.move('gpu-vm', 'Start and attach');
    await notebook.untilOn('gpu-vm', 120_000);
    await expect(toast('1 variable was saved when gpu-vm stopped')).toBeVisible();
    await picture(page, saved, 'saved-variables');
    expect(await faultsInBothThemes(page, PANEL)).toEqual([]);
    await saved.getByRole('button', { name: 'Load' }).click();
    await expect(saved).toHaveCount(0, { timeout: 60_000 });
    await expect(toast('1 variable was saved')).toHaveCount(0);
    await notebook.run(2);
    expect(await notebook.output(2)).toContain('True');
  });
});
