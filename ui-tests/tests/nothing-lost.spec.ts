/** No output is lost on its way into the page: a real JupyterLab, the emulated Azure and a real SSH server. */
import { Page } from '@playwright/test';

import { expect, test } from './fixtures';
import { JupyterServer } from './jupyter-server';
import { NotebookPage } from './notebook-page';
import { pause } from './processes';
import { Wire } from './wire';

test.use({ serverOptions: { args: ['--expose-app-in-browser'] } });

/** A cell that prints 0 to `n`-1, one line at a time. */
const counting = (n: number, seconds: number): string =>
  `import time\nfor i in range(${n}):\n    print(i, flush=True)\n    time.sleep(${seconds})`;

const lines = (n: number): string => [...Array(n).keys()].map(i => `${i}\n`).join('');

/** A notebook on cpu-vm whose cells are these. */
async function onVM(page: Page, server: JupyterServer, cells: string[]): Promise<NotebookPage> {
  server.write('nothing-lost.ipynb', cells);
  const notebook = new NotebookPage(page, server);
  await notebook.open('nothing-lost.ipynb');
  await notebook.moveFromChip('cpu-vm');
  return notebook;
}

const text = async (notebook: NotebookPage, index: number): Promise<string> =>
  (await notebook.outputsInModel(index)).join('');

test('20,000 small outputs are all there', async ({ page, server }) => {
  test.setTimeout(300_000);
  const notebook = await onVM(page, server, ['for i in range(20_000):\n    display(i)']);
  const begun = Date.now();
  await notebook.run(0, 150_000);
  console.log(`20,000 outputs in the page after ${(Date.now() - begun) / 1000} s`);
  expect(await notebook.outputsInModel(0)).toEqual([...Array(20_000).keys()].map(String));
});

test('100 MB of output are all there', async ({ page, server }) => {
  test.setTimeout(300_000);
  // Each with a megabyte that no renderer of JupyterLab shows, as plots carry their data: what is looked at is the notebook.
  const display = "display({'text/plain': str(i), 'application/x-megabyte': chr(97 + i % 26) * 1_000_000}, raw=True)";
  const notebook = await onVM(page, server, [`for i in range(100):\n    ${display}`]);
  await notebook.run(0, 150_000);
  expect(await notebook.outputsInModel(0)).toEqual([...Array(100).keys()].map(String));
  const whole = await page.evaluate(() => {
    // eslint-disable-next-line @typescript-eslint/no-explicit-any
    const { shell } = (window as any).jupyterapp;
    const outputs = shell.currentWidget.context.model.cells.get(0).outputs.toJSON();
    return outputs.map((output: { data: Record<string, string> }, i: number) => {
      const data = output.data['application/x-megabyte'];
      return data === String.fromCharCode(97 + (i % 26)).repeat(1_000_000);
    });
  });
  expect(whole).toEqual(Array(100).fill(true));
});

test('the toolbar interrupts a flood', async ({ page, server }) => {
  test.setTimeout(300_000);
  const flood = [
    'import time',
    'try:',
    '    for i in range(10_000_000):',
    '        display(i)',
    'except KeyboardInterrupt:',
    '    print("interrupted at", time.time())'
  ].join('\n');
  const notebook = await onVM(page, server, [flood]);
  await notebook.start(0);
  await expect.poll(async () => (await notebook.outputsInModel(0)).length).toBeGreaterThan(500);
  const asked = Date.now() / 1000;
  await notebook.notebook.getByRole('button', { name: 'Interrupt the kernel' }).click();
  await notebook.untilIdle(150_000);
  const said = (await notebook.outputsInModel(0)).slice(-1)[0];
  const seconds = Number(/interrupted at ([\d.]+)/.exec(said)?.[1]) - asked;
  console.log(`interrupted ${seconds.toFixed(2)} s after the click was asked for`);
  expect(seconds).toBeLessThan(10);
});

test('a page that loses its network goes on where it was', async ({ page, server }) => {
  test.setTimeout(300_000);
  const wire = await Wire.to(server.port);
  try {
    server.pagesThrough(wire.port);
    const notebook = await onVM(page, server, [counting(400, 0.05)]);
    await notebook.start(0);
    for (const [seen, milliseconds] of [
      ['50\n', 0],
      ['100\n', 0],
      ['150\n', 1500]
    ] as const) {
      await expect.poll(() => text(notebook, 0), { timeout: 120_000 }).toContain(seen);
      wire.cut();
      await pause(milliseconds);
      wire.mend();
    }
    // JupyterLab tries again at once, and when that fails after 10 to 30 seconds.
    await expect.poll(() => text(notebook, 0), { timeout: 120_000 }).toContain('399\n');
    expect(await text(notebook, 0)).toBe(lines(400));
    await notebook.untilIdle();
  } finally {
    await wire.end();
  }
});

test('a server that is killed and started again loses nothing', async ({ page, server }) => {
  test.setTimeout(400_000);
  const notebook = await onVM(page, server, [counting(600, 0.05), 'kept = i\nprint(kept)', 'print(kept)']);
  // JupyterLab's own, which a person closes.
  const lost = page.getByRole('dialog', { name: /^Server Connection Error/ });
  await page.addLocatorHandler(lost, dialog => dialog.getByRole('button').last().click());
  await notebook.start(0);
  await expect.poll(() => text(notebook, 0), { timeout: 60_000 }).toContain('100\n');
  await server.kill();
  await pause(3000);
  await server.startAgain();
  await expect.poll(() => text(notebook, 0), { timeout: 150_000 }).toContain('599\n');
  expect(await text(notebook, 0)).toBe(lines(600));
  await notebook.untilIdle();
  await notebook.run(1);
  expect(await notebook.output(1)).toBe('599');

  await page.reload();
  await notebook.notebook.waitFor({ timeout: 60_000 });
  await notebook.untilOn('cpu-vm');
  await notebook.untilIdle(60_000);
  await notebook.run(2);
  expect(await notebook.output(2)).toBe('599');
});
