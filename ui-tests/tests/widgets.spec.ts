/** Widgets are shown again as far as there is a kernel that knows them, and as they looked last where there is none. */
import { Locator, Page } from '@playwright/test';

import { faultsInBothThemes } from './accessibility';
import { expect, test } from './fixtures';
import { JupyterServer } from './jupyter-server';
import { NotebookPage } from './notebook-page';

const GONE = 'This widget does not answer any more: the kernel that it was in is gone. Run the cell to make it anew.';

const slider = (name: string): string =>
  `from ipywidgets import IntSlider, VBox\n${name} = IntSlider(value=3, description="${name}")\nVBox([${name}])`;

/** Save it as it is now, by the keyboard. */
async function saved(name: string, page: Page, server: JupyterServer): Promise<void> {
  const modified = async (): Promise<string> =>
    (await server.rest<{ last_modified: string }>(`api/contents/${name}?content=0`)).last_modified;
  const before = await modified();
  await page.keyboard.press('Control+s');
  await expect.poll(modified).not.toBe(before);
}

test('a slider on a machine lives on over a reload and a restart of the server', async ({ page, server }) => {
  test.setTimeout(300_000);
  server.write('live.ipynb', [slider('x'), 'print(x.value)']);
  const notebook = new NotebookPage(page, server);
  await notebook.open('live.ipynb');
  await notebook.moveFromChip('cpu-vm');
  const handle = notebook.cell(0).getByRole('slider');
  const moved = async (to: number): Promise<void> => {
    await handle.press('ArrowRight');
    await expect(handle).toHaveAttribute('aria-valuenow', new RegExp(`^${to}(\\.0)?$`));
    await notebook.run(1);
    expect(await notebook.output(1)).toBe(String(to));
  };
  await notebook.run(0);
  await moved(4);
  await saved('live.ipynb', page, server);

  await test.step('the page is loaded again', async () => {
    await notebook.open('live.ipynb');
    await expect(handle).toHaveAttribute('aria-valuenow', /^4(\.0)?$/);
    await moved(5);
  });

  await test.step('the server is started again', async () => {
    await server.kill();
    await server.startAgain();
    await notebook.open('live.ipynb');
    await expect(handle).toHaveAttribute('aria-valuenow', /^5(\.0)?$/);
    await moved(6);
  });
});

test('a slider whose kernel the notebook has left is shown as it looked last', async ({ page, server }) => {
  test.setTimeout(300_000);
  server.write('left.ipynb', [slider('x'), 'print(x.value)']);
  const notebook = new NotebookPage(page, server);
  await notebook.open('left.ipynb');
  await notebook.run(0);
  const cell = notebook.cell(0);
  const handle = cell.getByRole('slider');
  await handle.press('ArrowRight');
  await expect(handle).toHaveAttribute('aria-valuenow', /^4(\.0)?$/);

  const isPicture = async (): Promise<void> => {
    await expect(cell).toContainText(GONE);
    await expect(cell.locator('[inert]')).toBeVisible();
    await expect(cell.locator('[inert] .noUi-handle')).toBeVisible();
    await expect(cell.locator('.noUi-handle')).toHaveCount(1);
  };
  await notebook.moveFromChip('cpu-vm');
  await isPicture();
  expect(await faultsInBothThemes(page, '.jp-Dsvm-deadWidget')).toEqual([]);

  await test.step('and back again', async () => {
    await notebook.moveFromChip('Free tier');
    await isPicture();
  });

  await test.step('in a page that is loaded again', async () => {
    await saved('left.ipynb', page, server);
    await notebook.open('left.ipynb');
    await expect(cell).toContainText(GONE);
    await expect(cell).toContainText('IntSlider(value=3');
    await expect(page.locator('body')).not.toContainText('model not found');
  });

  await test.step('until the cell is run', async () => {
    await notebook.run(0);
    await handle.press('ArrowRight');
    await expect(handle).toHaveAttribute('aria-valuenow', /^4(\.0)?$/);
    await expect(cell).not.toContainText(GONE);
  });
});

test('one that its own kernel closes is not shown', async ({ page, server }) => {
  server.write('closed.ipynb', [`${slider('x')}\nbox = VBox([x])\nbox`, 'box.close()']);
  const notebook = new NotebookPage(page, server);
  await notebook.open('closed.ipynb');
  await notebook.run(0);
  const shown: Locator = notebook.cell(0).getByRole('slider');
  await expect(shown).toBeVisible();
  await notebook.run(1);
  await expect(shown).toBeHidden();
  await expect(notebook.cell(0)).not.toContainText(GONE);
});
