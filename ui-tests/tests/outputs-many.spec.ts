/** A notebook of 500 cells that have put out 20 MB while no page was there: how long until they are in it. Said, not asserted. */
import { expect, test } from './fixtures';
import { NotebookPage } from './notebook-page';
import { closed, opened, outputs, prompt } from './openings';

test.use({ serverOptions: { args: ['--expose-app-in-browser'] } });

const CELLS = 500;

/** 40 kB: half of it text that is shown, half a display's data that no renderer of JupyterLab shows. */
const CELL = `
for i in range(200): print(i, "x" * 95)
display({"text/plain": str(i), "application/x-data": chr(97 + i % 26) * 20_000}, raw=True)
`.trim();

test('500 cells with 20 MB of outputs that were missed', async ({ browser, server }, testInfo) => {
  test.setTimeout(400_000);
  server.write('large.ipynb', Array(CELLS).fill(CELL));
  const first = new NotebookPage(await (await browser.newContext()).newPage(), server);
  await first.open('large.ipynb');
  await first.page.getByRole('menuitem', { name: 'Run', exact: true }).click();
  await first.page.getByRole('menuitem', { name: 'Run All Cells', exact: true }).click();
  await expect(prompt(first)).toHaveText('[1]:');
  await closed(first);
  const [kernel] = await server.rest<{ id: string }[]>('api/kernels');
  await expect
    .poll(async () => (await server.rest<{ execution_state: string }>(`api/kernels/${kernel.id}`)).execution_state, {
      timeout: 240_000
    })
    .toBe('idle');

  const back = await opened(browser, server, 'large.ipynb');
  const shown = Date.now();
  await expect
    .poll(
      () =>
        back.page.evaluate(() => {
          // eslint-disable-next-line @typescript-eslint/no-explicit-any
          const panels = [...(window as any).jupyterapp.shell.widgets('main')];
          const cells = [...panels.find(widget => widget.context?.model.cells).context.model.cells];
          return cells.filter(cell => cell.executionCount !== null).length;
        }),
      { timeout: 120_000, intervals: [100] }
    )
    .toBe(CELLS);
  const said = `500 cells with 20 MB of missed outputs were filled ${(Date.now() - shown) / 1000} s after the notebook was shown`;
  console.log(said);
  await testInfo.attach('times', { body: said, contentType: 'text/plain' });
  expect((await outputs(back, CELLS - 1)).map(text => text.length)).toEqual([200 * (95 + 2) + 490, 3]);
  await closed(back);
});
