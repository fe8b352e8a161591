/** A notebook open in JupyterLab or Notebook 7, as a person uses it. */
import { expect, Locator, Page } from '@playwright/test';

import { JupyterServer } from './jupyter-server';

/** A row of the server's own list of sessions. */
interface ISession {
  path: string;
  kernel: { execution_state: string; connections: number } | null;
}

/** What a page needs to know of the server that it is of: also of one behind a hub. */
export type Serves = Pick<JupyterServer, 'address' | 'rest' | 'newWorkspace'>;

export class NotebookPage {
  constructor(
    readonly page: Page,
    private readonly _server: Serves
  ) {}

  /**
   * Open it, and wait until its kernel is idle.
   *
   * @param workspace JupyterLab's; one of its own where none is named, so that pages do not share their layout
   */
  async open(name: string, app: 'lab' | 'notebook' = 'lab', workspace?: string): Promise<void> {
    const page =
      app === 'lab' ? `lab/workspaces/${workspace ?? this._server.newWorkspace()}/tree/${name}` : `notebooks/${name}`;
    await this.page.goto(this._server.address(page));
    await this.notebook.waitFor({ timeout: 60_000 });
    await this._untilConnected(name);
    // Where there is little room, the toolbar's menu has the indicator.
    if ((this.page.viewportSize()?.width ?? 0) > 800) {
      await this.untilIdle(60_000);
    }
  }

  /**
   * Wait until the server has a kernel for the notebook, idle and with this page connected to it.
   *
   * The page's own indicator says "idle" before there is any kernel, and a cell run then is lost.
   */
  private async _untilConnected(path: string): Promise<void> {
    const state = async (): Promise<string> => {
      const sessions = await this._server.rest<ISession[]>('api/sessions');
      const kernel = sessions.find(session => session.path === path)?.kernel;
      return kernel && kernel.connections > 0 ? kernel.execution_state : 'not connected';
    };
    await expect.poll(state, { timeout: 60_000, message: `the kernel of ${path}` }).toBe('idle');
  }

  get notebook(): Locator {
    return this.page.locator('.jp-NotebookPanel:visible').first();
  }

  cell(index: number): Locator {
    return this.notebook.locator('.jp-CodeCell').nth(index);
  }

  /** Run one cell, and wait until it has ended, whether well or not. */
  async run(index: number, timeout = 60_000): Promise<void> {
    await this._watch(index);
    await this.start(index);
    await this._untilHasRun(index, timeout);
  }

  /** Mark the cell's prompt once the cell has run from now on. */
  private async _watch(index: number): Promise<void> {
    // The number may be the same as before (a new kernel counts from 1), so the change through [*] is what counts.
    await this._prompt(index).evaluate(node => {
      let running = false;
      node.removeAttribute('data-has-run');
      const observer = new MutationObserver(() => {
        const isRunning = node.textContent?.includes('*') ?? false;
        if (running && !isRunning) {
          observer.disconnect();
          node.setAttribute('data-has-run', 'true');
        }
        running = isRunning;
      });
      observer.observe(node, { childList: true, characterData: true, subtree: true });
    });
  }

  private async _untilHasRun(index: number, timeout: number): Promise<void> {
    await expect(this._prompt(index)).toHaveAttribute('data-has-run', 'true', { timeout });
  }

  private _prompt(index: number): Locator {
    return this.cell(index).locator('.jp-InputPrompt');
  }

  /** Run one cell, and do not wait. */
  async start(index: number): Promise<void> {
    await this._prompt(index).click();
    await this.page.keyboard.press('Control+Enter');
  }

  /** Run all cells, and wait until each has ended, whether well or not. */
  async runAll(timeout = 90_000): Promise<void> {
    const indexes = [...Array(await this.notebook.locator('.jp-CodeCell').count()).keys()];
    for (const index of indexes) {
      await this._watch(index);
    }
    await this.page.getByRole('menuitem', { name: 'Run', exact: true }).click();
    await this.page.getByRole('menuitem', { name: 'Run All Cells', exact: true }).click();
    for (const index of indexes) {
      await this._untilHasRun(index, timeout);
    }
  }

  /** The number in the cell's prompt. */
  async count(index: number): Promise<number> {
    const prompt = await this._prompt(index).innerText();
    return Number(/\[(\d+)\]:/.exec(prompt)?.[1]);
  }

  /** The text that the cell has put out. */
  async output(index: number): Promise<string> {
    const texts = await this.cell(index).locator('.jp-OutputArea-output').allInnerTexts();
    return texts.join('\n').trim();
  }

  /**
   * What the notebook's model holds of the cell's output, whether it is shown or not: one text for each output.
   *
   * Only on a server with `--expose-app-in-browser`.
   */
  async outputsInModel(index: number): Promise<string[]> {
    return this.page.evaluate(index => {
      // eslint-disable-next-line @typescript-eslint/no-explicit-any
      const { shell } = (window as any).jupyterapp;
      const outputs = shell.currentWidget.context.model.cells.get(index).outputs.toJSON();
      return outputs.map((output: { text?: string | string[]; data?: Record<string, string>; ename?: string }) =>
        [output.text ?? output.data?.['text/plain'] ?? output.ename].flat().join('')
      );
    }, index);
  }

  async untilIdle(timeout = 30_000): Promise<void> {
    const indicator = this.notebook.locator('.jp-Notebook-ExecutionIndicator');
    await expect(indicator).toHaveAttribute('data-status', 'idle', { timeout });
  }

  /**
   * Wait until the notebook runs there. While it is moving, the toolbar already names where to ("Free tier · moving 1
   * of 2"), so the text alone is not enough.
   */
  async untilOn(compute: string, timeout = 60_000): Promise<void> {
    const there = this.chip.and(this.page.locator('[data-tone="on"]'));
    await expect(there).toContainText(compute, { timeout });
  }

  /** Move it through the toolbar item, and wait until it has moved. */
  async moveFromChip(compute: string): Promise<void> {
    await this.chip.click();
    await this.page.getByRole('menuitem', { name: new RegExp(`^${compute}`) }).click();
    await this.page.getByRole('dialog').getByRole('button', { name: 'Move' }).click();
    await this.untilOn(compute);
  }

  /** The toolbar item that says where the notebook runs. */
  get chip(): Locator {
    return this.notebook.getByRole('button', { name: /^This notebook runs on:/ });
  }
}
