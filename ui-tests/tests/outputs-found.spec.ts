/** What cells put out while no page was there is in them when one is back: each output once, and none in a wrong cell. */
import * as fs from 'fs';
import * as path from 'path';

import { Browser, Page } from '@playwright/test';

import { expect, test } from './fixtures';
import { JupyterServer } from './jupyter-server';
import { NotebookPage } from './notebook-page';
import { pause } from './processes';

test.use({ serverOptions: { args: ['--expose-app-in-browser'] } });

/** Seconds that the long cell takes. */
const LONG = 18;

/**
 * Prints, a plot, a progress bar and, at the end, an error. (The picture is made by hand: there may be no matplotlib. What is
 * flushed comes in the same order each time.)
 */
const EVERYTHING = `
import base64, struct, sys, time, zlib
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
    time.sleep(0.1)
sys.stderr.write("\\n")
sys.stderr.flush()
print("ended", flush=True)
1 / 0
`.trim();

/** The notebook's file, byte for byte. */
const bytes = (server: JupyterServer, name: string): string =>
  fs.readFileSync(path.join(server.notebooks, name), 'utf-8');

/** A page that has just been opened, in a browser of its own, on a notebook whose kernel may be busy. */
async function opened(
  browser: Browser,
  server: JupyterServer,
  name: string,
  app: 'lab' | 'notebook' = 'lab'
): Promise<NotebookPage> {
  const page = await (await browser.newContext()).newPage();
  const at = app === 'lab' ? `lab/workspaces/${server.newWorkspace()}/tree/${name}` : `notebooks/${name}`;
  await page.goto(server.address(at));
  const notebook = new NotebookPage(page, server);
  await notebook.notebook.waitFor({ timeout: 60_000 });
  return notebook;
}

async function closed(notebook: NotebookPage): Promise<void> {
  await notebook.page.context().close();
}

async function saved(notebook: NotebookPage): Promise<void> {
  await notebook.page.keyboard.press('Control+s');
  await expect
    .poll(() =>
      notebook.page.evaluate(() => {
        // eslint-disable-next-line @typescript-eslint/no-explicit-any
        return (window as any).jupyterapp.shell.currentWidget.context.model.dirty;
      })
    )
    .toBe(false);
}

const prompt = (notebook: NotebookPage, index = 0) => notebook.cell(index).locator('.jp-InputPrompt');

for (const where of ['the free tier', 'cpu-vm']) {
  test(`a long cell on ${where}, its page closed and opened again`, async ({ browser, server }) => {
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
    const begun = Date.now();
    await expect(left.cell(0)).toContainText('second 3');
    await closed(left);

    if (where !== 'the free tier') {
      await server.kill();
      await pause(1000);
      await server.startAgain();
    }
    await pause(9000 - (Date.now() - begun));
    const middle = await opened(browser, server, 'left.ipynb');
    await expect(prompt(middle)).toHaveText('[*]:');
    await expect(middle.cell(0)).toContainText('begun');
    await expect(middle.notebook.locator('.jp-Notebook-ExecutionIndicator')).toHaveAttribute('data-status', 'busy');
    if (where === 'the free tier') {
      await expect(middle.cell(0)).toContainText(`second ${LONG - 3}`);
      await expect(prompt(middle)).toHaveText('[*]:');
    }
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
    expect(await isDirty(again.page)).toBe(false);
    await again.run(1);
    expect(await again.count(1)).toBe(2);
    await closed(again);
    await closed(watched);
  });
}

const isDirty = (page: Page): Promise<boolean> =>
  page.evaluate(() => {
    // eslint-disable-next-line @typescript-eslint/no-explicit-any
    return (window as any).jupyterapp.shell.currentWidget.context.model.dirty;
  });
