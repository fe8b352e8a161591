/** Another size, and a new machine. The dialogs in detail are tested in the labextension. */
import { ComputePanel } from './compute-panel';
import { expect, test } from './fixtures';

test('a machine gets another size, and goes on with its disk', async ({ page, server }) => {
  await page.goto(server.address('lab'));
  await server.turnOff('gpu-vm');
  const compute = new ComputePanel(page);
  await compute.open();
  await compute.button('gpu-vm', 'More actions for gpu-vm').click();
  await page.getByRole('menuitem', { name: 'Resize gpu-vm…' }).click();
  await compute.dialog.getByRole('radio', { name: 'NC8as_T4_v3' }).check();
  await compute.dialog.getByRole('button', { name: 'Resize' }).click();
  await expect(compute.dialog).toHaveCount(0);
  await expect(compute.card('gpu-vm')).toContainText('8 CPU · 56 GB · 1 × T4', { timeout: 120_000 });
});

test('a new machine is made, and listed', async ({ page, server }) => {
  await page.goto(server.address('lab'));
  const compute = new ComputePanel(page);
  await compute.open();
  await compute.openCreate('Research', 'westeurope');
  const { dialog } = compute;
  await dialog.getByLabel('Name', { exact: true }).fill('new-vm');
  await dialog.getByRole('radio', { name: 'D4ds_v5', exact: true }).check();
  await dialog.getByLabel('This server’s public address').fill('203.0.113.7');
  await dialog.getByRole('button', { name: 'Create' }).click();
  await expect(compute.card('New machine')).toBeVisible();
  await expect(compute.card('new-vm')).toBeVisible({ timeout: 120_000 });
});
