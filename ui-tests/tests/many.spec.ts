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

/** Bytes: what the extension's scripts may be together that a page loads at once, before anybody compresses them. */
const LARGEST = 200_000;

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
  await page.reload();
  await expect(compute.cards.first()).toBeVisible();
  await page.waitForFunction(() => performance.getEntriesByName('ready').length > 0);
  const { ready, filled } = await page.evaluate(() => ({
    ready: performance.getEntriesByName('ready')[0].startTime,
    filled: performance.getEntriesByName('filled')[0].startTime
  }));
  const loaded = await page.evaluate(() =>
    performance
      .getEntriesByType('resource')
      .map(({ name }) => new URL(name).pathname)
      .filter(name => name.includes('/jupyter-dsvm/static/'))
  );
  const scripts = new Set(loaded.map(name => path.basename(name)).filter(name => name.endsWith('.js')));
  expect(scripts.size).toBeGreaterThan(1);
  // What comes with the first notebook only is not among them.
  expect(scripts.size).toBeLessThan(fs.readdirSync(BUNDLE).filter(name => name.endsWith('.js')).length);
  const bytes = [...scripts].reduce((sum, name) => sum + fs.statSync(path.join(BUNDLE, name)).size, 0);
  const said =
    `JupyterLab is ready ${ready.toFixed(0)} ms after the page was asked for, the panel with 300 machines is filled ` +
    `${(filled - ready).toFixed(0)} ms after that; the extension's scripts are ${(bytes / 1000).toFixed(0)} kB.`;
  console.log(said);
  await testInfo.attach('times', { body: said, contentType: 'text/plain' });

  expect(bytes).toBeLessThanOrEqual(LARGEST);

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
