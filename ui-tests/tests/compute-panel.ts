/** The sidebar “Compute”, as a person uses it. */
import { expect, Locator, Page } from '@playwright/test';

import { PANEL } from './accessibility';

export class ComputePanel {
  constructor(readonly page: Page) {}

  get panel(): Locator {
    return this.page.getByRole('region', { name: 'Compute', exact: true });
  }

  /** Where the notebook in front runs, in words. */
  get thisNotebook(): Locator {
    return this.panel.getByRole('region', { name: 'This notebook' });
  }

  /** Those of machines that are in the page now. */
  get cards(): Locator {
    return this.panel.locator('.jp-Dsvm-card[data-compute]');
  }

  get filter(): Locator {
    return this.panel.getByRole('searchbox');
  }

  card(name: string): Locator {
    return this.panel.getByRole('listitem', { name, exact: true });
  }

  state(name: string): Locator {
    return this.card(name).getByRole('status');
  }

  button(card: string, label: string): Locator {
    return this.card(card).getByRole('button', { name: label, exact: true });
  }

  menuButton(card: string): Locator {
    return this.button(card, `More actions for ${card}`);
  }

  /** Choose from the menu of a card. */
  async choose(card: string, action: RegExp): Promise<void> {
    await this.menuButton(card).click();
    await this.page.getByRole('menuitem', { name: action }).click();
  }

  /** Run a command of the palette, without a mouse. */
  async command(label: string): Promise<void> {
    await this.page.keyboard.press('Control+Shift+C');
    await this.page.getByPlaceholder('SEARCH', { exact: true }).or(this.page.getByRole('searchbox')).first().waitFor();
    await this.page.keyboard.type(label);
    await this.page.locator('.lm-CommandPalette-item.lm-mod-active').filter({ hasText: label }).waitFor();
    await this.page.keyboard.press('Enter');
  }

  /** Make the sidebar 240 pixels wide; JupyterLab 4.6 by itself stops at 250. */
  async narrow(): Promise<void> {
    await this.page.addStyleTag({ content: ':root { --jp-sidebar-min-width: 240px !important; }' });
    // The layout asks for it when something comes or goes.
    await this.page.locator('li[data-id="jupyter-dsvm-compute"]').click();
    await this.panel.waitFor({ state: 'hidden' });
    await this.open();
    const handle = this.page.locator('#jp-main-split-panel > .lm-SplitPanel-handle:not(.lm-mod-hidden)').first();
    const box = await handle.boundingBox();
    if (!box) {
      throw new Error('The sidebar has no edge to drag.');
    }
    await this.page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    await this.page.mouse.down();
    await this.page.mouse.move(240, box.y + box.height / 2, { steps: 5 });
    await this.page.mouse.up();
  }

  /** The steps of the operation on a machine that are in this state. */
  steps(card: string, state: 'pending' | 'running' | 'done' | 'failed'): Locator {
    return this.card(card).locator(`[data-step][data-state="${state}"]`);
  }

  /** Who is signed in to Azure, and the way in. */
  get signIn(): Locator {
    return this.panel.getByRole('group', { name: 'Azure sign-in' });
  }

  signInButton(label: string): Locator {
    return this.signIn.getByRole('button', { name: label, exact: true });
  }

  /** The code that is to be entered. */
  async code(): Promise<string> {
    return (await this.signIn.locator('.jp-Dsvm-code').innerText()).trim();
  }

  /**
   * JupyterLab has begun, where no notebook is opened. Its launcher takes the focus when it comes, whoever has it by then, and on
   * a slow server that is after a test has begun to use the panel: to be waited for before the focus is asked about.
   */
  async launched(): Promise<void> {
    await expect(this.page.locator('.jp-Launcher')).toBeFocused();
  }

  /** Show it in JupyterLab, which may have opened it by itself as it was before. */
  async open(): Promise<void> {
    const tab = this.page.locator('li[data-id="jupyter-dsvm-compute"]');
    await tab.waitFor();
    await this.page.locator('#jupyter-lab-splash').waitFor({ state: 'detached' });
    const panel = this.page.locator(PANEL);
    if (!(await panel.isVisible())) {
      await tab.click();
    }
    await panel.waitFor();
  }

  /** Have the server ask Azure again. */
  async refresh(): Promise<void> {
    await this.panel.getByRole('button', { name: 'Ask again which machines there are' }).click();
  }

  /** Open the dialog for a new machine, as far as its sizes. */
  async openCreate(subscription: string, region: string): Promise<void> {
    await this.panel.getByRole('button', { name: 'Create a machine' }).click();
    await this.dialog.getByLabel('Subscription').selectOption(subscription);
    await this.dialog.getByLabel('Region').selectOption(region);
    await this.dialog.getByRole('radio').first().waitFor();
  }

  /** The dialog that is open. */
  get dialog(): Locator {
    return this.page.getByRole('dialog');
  }

  /** Press a card's button and say yes to the dialog. */
  async move(card: string, label: string): Promise<void> {
    await this.button(card, label).click();
    await this.dialog.getByRole('button', { name: 'Move' }).click();
    await this.dialog.waitFor({ state: 'detached' });
  }
}
