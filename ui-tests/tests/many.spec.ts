/** Three hundred machines: how long the panel takes, and how little of them is in the page. The times are said, not asserted. */
import * as fs from 'fs';
import * as path from 'path';

import { faults, PANEL } from './accessibility';
import { ComputePanel } from './compute-panel';
import { expect, test } from './fixtures';
import { picture } from './pictures';
import { ROOT } from './processes';
import { MANY } from './scenarios';

const BUNDLE = path.join(ROOT, 'jupyter_dsvm', 'labextension', 'static');

/** Bytes: what the scripts that a page loads at first may be together, before anybody compresses them; and with the dialogs. */
const LARGEST = 200_000;
const LARGEST_WITH_DIALOGS = 250_000;

/** Cards in the page at a time: some screens of them. */
const MOST_CARDS = 60;

test('three hundred machines', async ({ page, startEmulator, startServer }, testInfo) => {
  const server = await startServer(await startEmulator(MANY));
  const compute = new ComputePanel(page);
  // Once, so that the server has its list, as it has for whoever opens a second page.
  await page.goto(server.address('lab'));
  await compute.open();
  await expect(compute.cards.first()).toBeVisible();

  // JupyterLab opens with the sidebar as it was left.
  await expect
    .poll(async () => JSON.stringify(await server.rest('lab/api/workspaces')).includes('"current":"jupyter-dsvm-compute"'))
    .toBe(true);
  await page.addInitScript(() => {
    const first = (selector: string, mark: string, isThere: boolean): void => {
      const look = (): void => {
        if (!!document.querySelector(selector) === isThere) {
          performance.mark(mark);
        } else {
          requestAnimationFrame(look);
        }
      };
      look();
    };
    document.addEventListener('DOMContentLoaded', () => {
      first('#jupyter-lab-splash', 'splash', true);
      first('.jp-LabShell', 'shell', true);
      const ready = (): void => {
        if (performance.getEntriesByName('shell').length && !document.querySelector('#jupyter-lab-splash')) {
          performance.mark('ready');
        } else {
          requestAnimationFrame(ready);
        }
      };
      ready();
      first('.jp-Dsvm-card[data-compute]', 'filled', true);
    });
  });
  const loaded = new Set<string>();
  page.on('request', request => {
    const name = /\/extensions\/jupyter-dsvm\/static\/([^/?]+\.js)/.exec(request.url())?.[1];
    if (name) {
      loaded.add(name);
    }
  });
  await page.reload();
  await expect(compute.cards.first()).toBeVisible();
  await page.waitForFunction(() => performance.getEntriesByName('ready').length > 0);
  const { ready, filled } = await page.evaluate(() => ({
    ready: performance.getEntriesByName('ready')[0].startTime,
    filled: performance.getEntriesByName('filled')[0].startTime
  }));
  const size = (names: string[]): number =>
    names.reduce((sum, name) => sum + fs.statSync(path.join(BUNDLE, name)).size, 0);
  const bytes = size([...loaded]);
  const all = size(fs.readdirSync(BUNDLE).filter(name => name.endsWith('.js')));
  const said =
    `JupyterLab is ready ${ready.toFixed(0)} ms after the page was asked for, the panel with 300 machines is filled ` +
    `${(filled - ready).toFixed(0)} ms after that; the extension's scripts are ${(bytes / 1000).toFixed(0)} kB, and ` +
    `${(all / 1000).toFixed(0)} kB with the dialogs.`;
  console.log(said);
  await testInfo.attach('times', { body: said, contentType: 'text/plain' });

  expect(loaded.size).toBeGreaterThan(1); // the entry, and what it has
  expect(bytes).toBeLessThanOrEqual(LARGEST);
  expect(all).toBeLessThanOrEqual(LARGEST_WITH_DIALOGS);

  expect(await compute.cards.count()).toBeLessThanOrEqual(MOST_CARDS);
  expect(await faults(page, PANEL)).toEqual([]);

  await test.step('the filter', async () => {
    await compute.filter.fill('gpu-3-1');
    await expect(compute.panel).toContainText('Showing 9 of 300.');
    await expect(compute.cards).toHaveCount(9);
    await compute.panel.getByRole('button', { name: 'Clear filters' }).click();
    await expect(compute.filter).toBeFocused();
  });

  await test.step('the last machine is reached by scrolling', async () => {
    // As cards come into sight their heights become known, and the list longer or shorter.
    await expect(async () => {
      await compute.panel.evaluate(node => (node.scrollTop = node.scrollHeight));
      await expect(compute.panel.locator('[aria-posinset="300"]')).toBeInViewport({ timeout: 1000 });
    }).toPass();
    expect(await compute.cards.count()).toBeLessThanOrEqual(MOST_CARDS);
  });
  await picture(page, compute.panel, 'many');
});
