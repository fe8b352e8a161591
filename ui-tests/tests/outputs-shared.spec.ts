/** Several pages share a document, and what cells put out is in it once, whoever goes and comes. A real jupyter-collaboration. */
import * as fs from 'fs';
import * as path from 'path';

import { expect, test } from './fixtures';
import { NotebookPage } from './notebook-page';
import { bytes, closed, COUNTED, COUNTING, opened, prompt, text } from './openings';
import { pause, ROOT } from './processes';

/** Where `make test-ui` puts it; beside the environment of all other tests, which are to run without it. */
const INSTALLED = path.join(ROOT, '.stamps', 'collaboration');

test.skip(!fs.existsSync(path.join(INSTALLED, 'done')), 'jupyter-collaboration is not installed');

test.use({
  serverOptions: {
    args: ['--expose-app-in-browser'],
    env: {
      PYTHONPATH: INSTALLED,
      JUPYTER_PATH: path.join(INSTALLED, 'share', 'jupyter'),
      JUPYTER_CONFIG_PATH: path.join(INSTALLED, 'etc', 'jupyter')
    }
  }
});

for (const stays of [true, false]) {
  test(`whoever has run a cell ${stays ? 'stays' : 'goes'}`, async ({ browser, server }) => {
    server.write('shared.ipynb', [COUNTING, 'print(2)']);
    const mine = new NotebookPage(await (await browser.newContext()).newPage(), server);
    await mine.open('shared.ipynb');
    const theirs = await opened(browser, server, 'shared.ipynb');
    await mine.start(0);
    await expect.poll(() => text(theirs)).toContain('50\n');
    if (!stays) {
      await closed(mine);
    }
    const late = await opened(browser, server, 'shared.ipynb');
    await expect(prompt(late)).toHaveText('[*]:');
    await expect(prompt(theirs)).toHaveText('[*]:');
    fs.writeFileSync(path.join(server.notebooks, 'go-on'), '');
    const there = stays ? [mine, theirs, late] : [theirs, late];
    for (const notebook of there) {
      await expect(prompt(notebook)).toHaveText('[1]:', { timeout: 60_000 });
      await expect.poll(() => text(notebook)).toBe(COUNTED);
    }
    // Nor does anybody write it once more.
    await pause(8000);
    for (const notebook of there) {
      expect(await text(notebook)).toBe(COUNTED);
      await expect(notebook.notebook.locator('.jp-Dsvm-strays')).toHaveCount(0);
    }
    await theirs.run(1);
    await expect.poll(() => text(late, 1)).toBe('2\n');
    await expect
      .poll(() => JSON.parse(bytes(server, 'shared.ipynb')).cells[0].outputs.length, { timeout: 30_000 })
      .toBe(1);
    expect(JSON.parse(bytes(server, 'shared.ipynb')).cells[0].outputs[0].text.join('')).toBe(COUNTED);
    for (const notebook of there) {
      await closed(notebook);
    }
  });
}

test('all have gone, and two come back at once', async ({ browser, server }) => {
  server.write('left.ipynb', [COUNTING]);
  const first = new NotebookPage(await (await browser.newContext()).newPage(), server);
  await first.open('left.ipynb');
  await first.start(0);
  await expect.poll(() => text(first)).toContain('50\n');
  await closed(first);
  const back = await Promise.all([1, 2].map(() => opened(browser, server, 'left.ipynb')));
  for (const notebook of back) {
    await expect(prompt(notebook)).toHaveText('[*]:');
  }
  fs.writeFileSync(path.join(server.notebooks, 'go-on'), '');
  for (const notebook of back) {
    await expect(prompt(notebook)).toHaveText('[1]:', { timeout: 60_000 });
  }
  await pause(8000);
  for (const notebook of back) {
    expect(await text(notebook)).toBe(COUNTED);
    await closed(notebook);
  }
});
