/** `%dsvm` in a notebook: the table, the question before code spends money, live steps, one line at the end, errors. */
import { expect, test } from './fixtures';
import { NotebookPage } from './notebook-page';

/** Pictures to look at go there, where it is set. */
const PICTURES = process.env.DSVM_LOOK;

test.use({ serverOptions: { args: ['--DSVMService.kernel_may_start={}'] } });

for (const theme of ['light', 'dark'] as const) {
  test(`a cell asks, shows its steps and ends in one line (${theme})`, async ({ page, server }) => {
    test.setTimeout(300_000);
    await page.emulateMedia({ colorScheme: theme });
    await server.turnOff('gpu-vm');
    server.write('analysis.ipynb', [
      '%dsvm',
      '%dsvm attach gpu-vm',
      '%dsvm attach gpu-vm',
      'import os\nprint(os.environ.get("DSVM_NAME", "here"))',
      '%dsvm start cpu-vm'
    ]);
    const notebook = new NotebookPage(page, server);
    const look = async (name: string): Promise<void> => {
      if (PICTURES) {
        await page.screenshot({ path: `${PICTURES}/magic-${theme}-${name}.png` });
      }
    };
    const output = (index: number) => notebook.cell(index).locator('.jp-OutputArea');
    const dialog = page.getByRole('dialog');
    await notebook.open('analysis.ipynb');

    await notebook.run(0);
    await expect(output(0).getByRole('table')).toContainText('gpu-vm');
    await expect(output(0)).toContainText('This notebook runs on the free tier');
    await look('bare');

    await notebook.start(1);
    await expect(dialog).toContainText('Start gpu-vm?');
    await expect(dialog).toContainText('A cell of analysis.ipynb wants to start gpu-vm');
    await expect(dialog.getByRole('button', { name: 'Not now' })).toBeFocused();
    await expect(output(1)).toContainText('Waiting for your answer in the page…');
    await look('dialog');
    await page.keyboard.press('Escape');
    await expect(output(1)).toContainText('answered with “Not now”');
    await expect(output(1)).not.toContainText('Traceback');
    await look('no');

    await page.waitForTimeout(10_500); // so long a no counts for a loop
    await notebook.start(2);
    await dialog.getByRole('button', { name: 'Start it' }).click({ timeout: 60_000 });
    await expect(output(2)).toContainText('✓ Allowed in the page');
    await expect(output(2)).toContainText('▸');
    await look('steps');
    await expect(output(2)).toContainText('The following cells run on gpu-vm (4 CPU · 28 GB · 1 × T4', {
      timeout: 120_000
    });
    await expect(output(2)).not.toContainText('▸');
    await expect(output(2).locator('.jp-OutputArea-output')).toHaveCount(1);
    await look('done');
    await notebook.run(3);
    await expect(output(3)).toContainText('gpu-vm');
    await notebook.run(4);
    await expect(output(4)).toContainText('A kernel on a VM may not start machines.');
    await look('refused');
  });
}
