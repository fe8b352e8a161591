/** What machines have cost, and a budget that is spent: at prices so high that it does not take long. */
import { cutOff, DIALOG, faultsInBothThemes, leave, PANEL, TOAST } from './accessibility';
import { ComputePanel } from './compute-panel';
import { expect, test } from './fixtures';
import { DEAR } from './scenarios';

/** Dollars: spent in half a minute. */
const BUDGET = 3;

test('what is spent, and a budget', async ({ page, startEmulator, startServer }) => {
  test.setTimeout(300_000);
  const server = await startServer(await startEmulator(DEAR), {
    args: [`--DSVMService.budget=${BUDGET}`, '--DSVMService.budget_period=day']
  });
  let asked = 0;
  page.on('request', request => (asked += /\/jupyter-dsvm\/spend\b/.test(request.url()) ? 1 : 0));
  await page.goto(server.freshLab());
  const compute = new ComputePanel(page);
  const spend = compute.panel.locator('.jp-Dsvm-spend');
  const today = async (): Promise<number> =>
    Number(/~\$(\d+\.\d\d) today/.exec((await spend.locator('summary').textContent()) ?? '')?.[1] ?? 0);
  await compute.open();

  await test.step('it grows in the page, which asks for nothing', async () => {
    await expect.poll(today, { timeout: 60_000 }).toBeGreaterThan(0);
    const [before, requests] = [await today(), asked];
    await expect.poll(today, { timeout: 30_000 }).toBeGreaterThan(before + 0.5);
    // At most what changed meanwhile: that the budget is nearly spent, and that it is.
    expect(asked - requests).toBeLessThanOrEqual(2);
    await spend.locator('summary').click();
    await expect(spend.getByRole('listitem')).toHaveText(/^on-vm: ~\$\d+(\.\d\d)? today, ~\$\d+(\.\d\d)? this month$/);
    await expect(spend).toContainText('Disks are not counted.');
  });

  await test.step('a budget that is spent is said, once', async () => {
    const line = compute.panel.locator('[data-budget="exceeded"]');
    await expect(line).toContainText(/^Budget for today: ~\$\d+(\.\d\d)? of \$3 is spent, \d+\s%\./, { timeout: 150_000 });
    const toast = page.locator(TOAST).filter({ hasText: 'nothing is started that costs money' });
    await expect(toast).toBeVisible();
    expect(await faultsInBothThemes(page, PANEL, TOAST)).toEqual([]);
    await page.reload();
    await expect(line).toBeVisible();
    await expect(spend).toContainText('today');
    await expect(page.locator(TOAST)).toHaveCount(0);
    await compute.narrow();
    expect(await cutOff(compute.panel)).toEqual([]);
  });

  await test.step('nothing is started then, and that is said in words', async () => {
    await compute.button('off-vm', 'Start').click();
    await expect(compute.dialog).toContainText('off-vm was not started');
    await expect(compute.dialog).toContainText(/budget/);
    await leave(page, DIALOG);
    await expect(compute.state('off-vm')).toHaveText(/^Off\./);
  });
});
