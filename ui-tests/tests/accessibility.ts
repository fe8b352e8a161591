/** What axe finds, and what does not fit where it is shown. */
import AxeBuilder from '@axe-core/playwright';
import { expect, Locator, Page } from '@playwright/test';

/** The sidebar. */
export const PANEL = '#jupyter-dsvm-compute';
/** JupyterLab's dialogs, with ours in them. */
export const DIALOG = '.jp-Dialog';
/** Menus that are open. */
export const MENU = '.lm-Menu';
/** Notifications on screen. */
export const TOAST = '.Toastify__toast';

/** One line for each rule that axe finds broken within these; a selector that fits nothing is a mistake in the test. */
export async function faults(page: Page, ...within: string[]): Promise<string[]> {
  const axe = new AxeBuilder({ page });
  for (const selector of within) {
    await page.locator(selector).first().waitFor();
    axe.include(selector);
  }
  const { violations } = await axe.analyze();
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(node => node.html).join(' ')}`);
}

/** The same in the dark and in the light theme: JupyterLab follows the system's, as the tests' servers are set. */
export async function faultsInBothThemes(page: Page, ...within: string[]): Promise<string[]> {
  const found: string[] = [];
  for (const colorScheme of ['dark', 'light'] as const) {
    await page.emulateMedia({ colorScheme });
    await expect(page.locator('body')).toHaveAttribute('data-jp-theme-light', String(colorScheme === 'light'));
    found.push(...(await faults(page, ...within)).map(fault => `${colorScheme}: ${fault}`));
  }
  return found;
}

/** Close a menu or a dialog with Esc, once it has the keyboard. */
export async function leave(page: Page, selector: string): Promise<void> {
  const open = page.locator(selector);
  const hasKeyboard = (): Promise<boolean> =>
    open.evaluateAll(nodes => nodes.some(node => node.contains(document.activeElement)));
  await expect.poll(hasKeyboard, { message: `the keyboard is in ${selector}` }).toBe(true);
  await page.keyboard.press('Escape');
  await expect(open).toHaveCount(0);
}

/**
 * What is wider than its place: elements that scroll sideways, and buttons and fields that reach over the edge or show
 * less than their whole text. Names may be cut where a tooltip has them whole.
 */
export async function cutOff(within: Locator): Promise<string[]> {
  return within.evaluate(root => {
    const found: string[] = [];
    const edges = root.getBoundingClientRect();
    const said = (node: Element): string =>
      `${node.tagName.toLowerCase()}.${node.className} “${(node.textContent ?? '').slice(0, 40)}”`;
    const isShown = (node: Element): boolean => node.getClientRects().length > 0;
    for (const node of [root, ...root.querySelectorAll('*')]) {
      if (!(node instanceof HTMLElement) || !isShown(node) || node.closest('.jp-Dsvm-hidden')) {
        continue;
      }
      const style = getComputedStyle(node);
      const isWider = node.scrollWidth > node.clientWidth && node.clientWidth > 0 && style.display !== 'inline';
      const isCutName = style.textOverflow === 'ellipsis' && !!node.closest('[title]');
      if (isWider && !isCutName) {
        found.push(`${said(node)} is ${node.scrollWidth} wide in ${node.clientWidth}`);
      }
      if (node.matches('button, input, select, a')) {
        const { left, right } = node.getBoundingClientRect();
        if (left < edges.left - 0.5 || right > edges.right + 0.5) {
          found.push(`${said(node)} reaches from ${left} to ${right}, outside ${edges.left} to ${edges.right}`);
        }
      }
    }
    return found;
  });
}
