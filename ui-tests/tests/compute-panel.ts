/** The sidebar “Compute”, as a person uses it. */
import { Locator, Page } from '@playwright/test';

export class ComputePanel {
  constructor(readonly page: Page) {}

  get panel(): Locator {
    return this.page.getByRole('region', { name: 'Compute', exact: true });
  }

  /** Where the notebook in front runs, in words. */
  get thisNotebook(): Locator {
    return this.panel.getByRole('region', { name: 'This notebook' });
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

  async open(): Promise<void> {
    await this.page.locator('li[data-id="jupyter-dsvm-compute"]').click();
    await this.panel.waitFor();
  }

  /** Have the server ask Azure again. */
  async refresh(): Promise<void> {
    await this.panel.getByRole('button', { name: 'Ask again which machines there are' }).click();
  }

  /** The move dialog. */
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
