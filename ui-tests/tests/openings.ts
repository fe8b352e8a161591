/** Notebooks that are closed and opened again, in a browser of its own each time, and what they hold then. */
import * as fs from 'fs';
import * as path from 'path';

import { Browser, Locator } from '@playwright/test';

import { expect } from './fixtures';
import { JupyterServer } from './jupyter-server';
import { NotebookPage } from './notebook-page';

/** A cell that prints some numbers, waits until it is told to go on by a file beside the notebook, and prints the rest. */
export const COUNTING = `
import os, time
for i in range(300):
    print(i, flush=True)
    while i == 100 and not os.path.exists("go-on"):
        time.sleep(0.05)
    time.sleep(0.01)
`.trim();

export const COUNTED = [...Array(300).keys()].map(i => `${i}\n`).join('');

/** The notebook's file, byte for byte. */
export const bytes = (server: JupyterServer, name: string): string =>
  fs.readFileSync(path.join(server.notebooks, name), 'utf-8');

/** A page that has just been opened, in a browser of its own, on a notebook whose kernel may be busy. */
export async function opened(
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

export async function closed(notebook: NotebookPage): Promise<void> {
  await notebook.page.context().close();
}

export async function saved(notebook: NotebookPage): Promise<void> {
  await notebook.page.keyboard.press('Control+s');
  await expect.poll(() => isDirty(notebook)).toBe(false);
}

export const prompt = (notebook: NotebookPage, index = 0): Locator => notebook.cell(index).locator('.jp-InputPrompt');

/** Whether it holds what is not saved. Only on a server with `--expose-app-in-browser`, as all that looks into models. */
export const isDirty = (notebook: NotebookPage): Promise<boolean> =>
  notebook.page.evaluate(() => {
    // eslint-disable-next-line @typescript-eslint/no-explicit-any
    return [...(window as any).jupyterapp.shell.widgets('main')].find(widget => widget.context?.model.cells).context.model
      .dirty;
  });

/** What the cell holds, one text for each output. */
export const outputs = (notebook: NotebookPage, index = 0): Promise<string[]> =>
  notebook.page.evaluate(index => {
    // eslint-disable-next-line @typescript-eslint/no-explicit-any
    const panels = [...(window as any).jupyterapp.shell.widgets('main')];
    const held = panels.find(widget => widget.context?.model.cells)?.context.model.cells.get(index)?.outputs.toJSON() ?? [];
    return held.map((output: { text?: string; data?: Record<string, string>; ename?: string }) =>
      [output.text ?? output.data?.['text/plain'] ?? output.ename].flat().join('')
    );
  }, index);

/** All of its text. */
export const text = async (notebook: NotebookPage, index = 0): Promise<string> => (await outputs(notebook, index)).join('');
