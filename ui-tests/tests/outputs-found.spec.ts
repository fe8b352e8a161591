/** What cells put out while no page was there is in them when one is back: each output once, and none in a wrong cell. */
import * as fs from 'fs';
import * as path from 'path';

import { expect, test } from './fixtures';
import { JupyterServer } from './jupyter-server';
import { NotebookPage } from './notebook-page';
import { bytes, closed, COUNTED, COUNTING, isDirty, opened, outputs, prompt, saved, text } from './openings';
import { pause } from './processes';

test.use({ serverOptions: { args: ['--expose-app-in-browser'] } });

/** Seconds that the long cell takes, beside what it waits in the middle until it is told to go on. */
const LONG = 8;

/**
 * Prints, a plot, a progress bar and, at the end, an error. (The picture is made by hand: there may be no matplotlib. What is
 * flushed comes in the same order each time.)
 */
const EVERYTHING = `
import os, struct, sys, time, zlib
from IPython.display import Image, display
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
def plot(n):
    rows = b"".join(b"\\0" + b"".join(bytes((x * 2, y * 2, n)) for x in range(64)) for y in range(64))
    return b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", struct.pack(">2I5B", 64, 64, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
print("begun", flush=True)
shown = display(Image(plot(0)), display_id="plot")
for i in range(${LONG * 10}):
    if i % 10 == 0:
        print("second", i // 10, flush=True)
    sys.stderr.write(f"\\r{i * 100 // ${LONG * 10 - 1}:3d}%|{'█' * (i // 6):<30}| {i}/${LONG * 10 - 1}")
    sys.stderr.flush()
    if i == ${LONG * 5}:
        shown.update(Image(plot(200)))
        while not any(map(os.path.exists, ("go-on", os.path.expanduser("~/go-on")))):
            time.sleep(0.05)
    time.sleep(0.1)
sys.stderr.write("\\n")
sys.stderr.flush()
print("ended", flush=True)
1 / 0
`.trim();

const goOn = (server: JupyterServer): void => fs.writeFileSync(path.join(server.notebooks, 'go-on'), '');

/** The same for cells on a machine: in every home folder there. */
const goOnThere = (disk: string): void => {
  for (const user of fs.readdirSync(path.join(disk, 'home'))) {
    fs.writeFileSync(path.join(disk, 'home', user, 'go-on'), '');
  }
};

for (const where of ['the free tier', 'cpu-vm']) {
  test(`a long cell on ${where}, its page closed and opened again`, async ({ browser, server, emulator }) => {
    test.setTimeout(400_000);
    const names = ['watched.ipynb', 'left.ipynb'];
    const [watched, left] = await Promise.all(
      names.map(async name => {
        server.write(name, [EVERYTHING, 'print("next")']);
        const notebook = new NotebookPage(await (await browser.newContext()).newPage(), server);
        await notebook.open(name);
        return notebook;
      })
    );
    if (where !== 'the free tier') {
      await watched.moveFromChip(where);
      await left.moveFromChip(where);
    }
    await watched.start(0);
    await left.start(0);
    await expect(left.cell(0)).toContainText('second 3');
    await closed(left);

    if (where !== 'the free tier') {
      await server.kill();
      await pause(1000);
      await server.startAgain();
    }
    const middle = await opened(browser, server, 'left.ipynb');
    await expect(prompt(middle)).toHaveText('[*]:');
    await expect(middle.cell(0)).toContainText('begun');
    await expect(middle.notebook.locator('.jp-Notebook-ExecutionIndicator')).toHaveAttribute('data-status', 'busy');
    await expect(middle.cell(0)).toContainText(`${LONG * 5}/`);
    if (where === 'the free tier') {
      goOn(server);
    } else {
      goOnThere(emulator.disk(where));
    }
    await expect(middle.cell(0)).toContainText(`second ${LONG / 2 + 1}`);
    await closed(middle);

    await expect(prompt(watched)).toHaveText('[1]:', { timeout: 120_000 });
    await saved(watched);
    const back = await opened(browser, server, 'left.ipynb');
    await expect(prompt(back)).toHaveText('[1]:');
    await expect(back.cell(0)).toContainText('ZeroDivisionError');
    await saved(back);
    expect(bytes(server, 'left.ipynb')).toBe(bytes(server, 'watched.ipynb'));
    expect(bytes(server, 'left.ipynb')).toContain(`second ${LONG - 1}`);

    // The file has it now: nothing is filled, and nothing is to be saved.
    await closed(back);
    const again = await opened(browser, server, 'left.ipynb');
    await again.untilIdle(60_000);
    await pause(2000);
    expect(await isDirty(again)).toBe(false);
    await again.run(1);
    expect(await again.count(1)).toBe(2);
    await closed(again);
    await closed(watched);
  });
}


test('a page that is loaded again and again while a cell prints', async ({ browser, server }) => {
  server.write('fast.ipynb', [COUNTING]);
  const notebook = new NotebookPage(await (await browser.newContext()).newPage(), server);
  await notebook.open('fast.ipynb');
  await notebook.start(0);
  for (const isLast of [false, true]) {
    await expect.poll(() => text(notebook)).toContain('50\n');
    if (isLast) {
      goOn(server);
    }
    await notebook.page.reload();
    await notebook.notebook.waitFor({ timeout: 60_000 });
    await expect(prompt(notebook)).not.toHaveText('[ ]:');
  }
  await expect(prompt(notebook)).toHaveText('[1]:', { timeout: 60_000 });
  expect(await text(notebook)).toBe(COUNTED);
  // Nobody else is there to save it.
  await expect.poll(() => isDirty(notebook)).toBe(true);
  await closed(notebook);
});

test('two tabs without real-time collaboration', async ({ browser, server }) => {
  server.write('twice.ipynb', [COUNTING, 'print(2)']);
  const first = new NotebookPage(await (await browser.newContext()).newPage(), server);
  await first.open('twice.ipynb');
  await saved(first); // with what JupyterLab notes of the kernel
  await first.start(0);
  const second = await opened(browser, server, 'twice.ipynb');
  await expect(prompt(second)).toHaveText('[*]:');
  await expect.poll(() => text(second)).toContain('100\n');
  goOn(server);
  for (const notebook of [first, second]) {
    await expect(prompt(notebook)).toHaveText('[1]:', { timeout: 30_000 });
    expect(await text(notebook)).toBe(COUNTED);
  }
  // The first one saves; would the second as well, each would find that the other has changed the file.
  expect(await isDirty(first)).toBe(true);
  expect(await isDirty(second)).toBe(false);
  // Each goes on by itself, and sees what the other has run.
  await second.run(1);
  expect(await text(second, 1)).toBe('2\n');
  await expect.poll(() => text(first, 1)).toBe('2\n');
  expect(await text(first)).toBe(COUNTED);
  await closed(first);
  await closed(second);
});

test('cells that wait, and Interrupt', async ({ browser, server }) => {
  server.write('waiting.ipynb', ['print("on", flush=True)\nimport time\ntime.sleep(100)', 'print(1)', 'print(2)']);
  const first = new NotebookPage(await (await browser.newContext()).newPage(), server);
  await first.open('waiting.ipynb');
  for (const index of [0, 1, 2]) {
    await first.start(index);
  }
  await expect(first.cell(0)).toContainText('on');
  await closed(first);
  const back = await opened(browser, server, 'waiting.ipynb');
  for (const index of [0, 1, 2]) {
    await expect(prompt(back, index)).toHaveText('[*]:');
  }
  await back.notebook.getByRole('button', { name: 'Interrupt the kernel' }).click();
  await expect(back.cell(0)).toContainText('KeyboardInterrupt');
  await expect(prompt(back)).toHaveText('[1]:');
  for (const index of [1, 2]) {
    await expect(prompt(back, index)).toHaveText('[ ]:');
    expect(await text(back, index)).toBe('');
  }
  await back.untilIdle();
  await closed(back);
});

test('what input() asks is answered in the page that is there', async ({ browser, server }) => {
  server.write('asking.ipynb', ['for i in range(2):\n    print("hello", input("name: "))']);
  const first = new NotebookPage(await (await browser.newContext()).newPage(), server);
  await first.open('asking.ipynb');
  await first.start(0);
  await expect(first.cell(0).locator('.jp-Stdin-input')).toBeVisible();
  await closed(first);
  const back = await opened(browser, server, 'asking.ipynb');
  for (const name of ['Ada', 'Grace']) {
    const field = back.cell(0).locator('.jp-OutputArea-stdin-item:not(.jp-OutputArea-stdin-hiding) input');
    await field.fill(name);
    await field.press('Enter');
    await expect(back.cell(0)).toContainText(`hello ${name}`);
  }
  await expect(prompt(back)).toHaveText('[1]:');
  expect(await outputs(back)).toEqual(['name:  Ada\n', 'hello Ada\n', 'name:  Grace\n', 'hello Grace\n']);
  await expect(back.cell(0).locator('.jp-Stdin-input')).toHaveCount(0);
  await closed(back);
});

test('a notebook that was renamed meanwhile, in Notebook 7', async ({ browser, startServer, emulator }) => {
  const server = await startServer(emulator, { app: 'notebook', args: ['--expose-app-in-browser'] });
  server.write('before.ipynb', [COUNTING]);
  const first = new NotebookPage(await (await browser.newContext()).newPage(), server);
  await first.open('before.ipynb', 'notebook');
  await first.start(0);
  await expect(first.cell(0)).toContainText('100');
  await closed(first);
  // As JupyterLab does it in another tab.
  const [session] = await server.rest<{ id: string }[]>('api/sessions');
  const to = JSON.stringify({ path: 'after.ipynb' });
  await server.rest('api/contents/before.ipynb', { method: 'PATCH', body: to });
  await server.rest(`api/sessions/${session.id}`, { method: 'PATCH', body: to });
  const back = await opened(browser, server, 'after.ipynb', 'notebook');
  await expect(prompt(back)).toHaveText('[*]:');
  goOn(server);
  await expect(prompt(back)).toHaveText('[1]:', { timeout: 30_000 });
  expect(await text(back)).toBe(COUNTED);
  await closed(back);
});

test('what was cleared or deleted does not come back', async ({ browser, server }) => {
  server.write('cleared.ipynb', ['print(0)', 'print(1)', 'print(2)']);
  const first = new NotebookPage(await (await browser.newContext()).newPage(), server);
  await first.open('cleared.ipynb');
  await first.runAll();
  await prompt(first, 1).click();
  await first.page.keyboard.press('d');
  await first.page.keyboard.press('d');
  await expect(first.notebook.locator('.jp-CodeCell')).toHaveCount(2);
  await prompt(first, 0).click();
  await first.page.getByRole('menuitem', { name: 'Edit', exact: true }).click();
  await first.page.getByRole('menuitem', { name: 'Clear Cell Output' }).click();
  await expect(prompt(first)).toHaveText('[ ]:');
  const kept = async (): Promise<number> => {
    const [kernel] = await server.rest<{ id: string }[]>('api/kernels');
    const { rows } = await server.rest<{ rows: object[] }>(`jupyter-dsvm/kernels/${kernel.id}/outputs`);
    return rows.length;
  };
  await expect.poll(kept).toBe(1);
  await saved(first);
  await closed(first);
  const back = await opened(browser, server, 'cleared.ipynb');
  await back.untilIdle();
  await pause(2000);
  expect(await text(back, 0)).toBe('');
  expect(await text(back, 1)).toBe('2\n');
  await expect(back.notebook.getByText('Outputs that found no cell')).toHaveCount(0);
  expect(await isDirty(back)).toBe(false);
  await closed(back);
});
