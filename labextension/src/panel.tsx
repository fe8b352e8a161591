import { ReactWidget, UseSignal } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import * as React from 'react';

import { CancelChoice } from './actions';
import { ICompute, IOperation } from './api';
import { CommandIDs } from './commands';
import { ComputePanelView } from './components/ComputePanelView';
import { ICurrentNotebook } from './current';
import { computeIcon } from './icons';
import { newMenu, openMenu } from './menu';
import { IComputeModel } from './tokens';
import { PrimaryAction } from './words';

const COMMAND_OF: Record<PrimaryAction, string> = {
  attach: CommandIDs.attach,
  detach: CommandIDs.detach,
  start: CommandIDs.start,
  release: CommandIDs.stop
};

/** What is behind a card's menu button, in this order, as far as it is possible now. */
const MENU = [
  CommandIDs.attach,
  CommandIDs.start,
  CommandIDs.stop,
  CommandIDs.restart,
  CommandIDs.resize
];

/** The sidebar “Compute”. */
export class ComputePanel extends ReactWidget {
  constructor(private readonly _options: ComputePanel.IOptions) {
    super();
    const { trans } = _options;
    this.id = 'jupyter-dsvm-compute';
    this.addClass('jp-Dsvm-panel');
    this.title.icon = computeIcon;
    this.title.caption = trans.__('Compute');
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', trans.__('Compute'));
  }

  /** The keyboard goes on from here. */
  protected onActivateRequest(): void {
    this.node.tabIndex = -1;
    this.node.focus({ preventScroll: true });
  }

  protected render(): React.ReactElement {
    const { model, current, commands, trans } = this._options;
    return (
      <UseSignal signal={model.stateChanged}>
        {() => (
          <UseSignal signal={current.changed}>
            {() => (
              <ComputePanelView
                model={model}
                notebook={current.notebook}
                onAction={(compute, action) =>
                  void commands.execute(COMMAND_OF[action], { compute: compute.id })
                }
                menuOf={(compute, primary) => this._menuOf(compute, primary)}
                onMenu={(compute, items, anchor) => this._openMenu(compute, items, anchor)}
                onDetach={() => void commands.execute(CommandIDs.detach)}
                onCancel={(operation, choice) => void this._cancel(operation, choice)}
                onAccountMenu={anchor => this._openAccountMenu(anchor)}
                onCreate={() => void commands.execute(CommandIDs.create)}
                onRefresh={() => void commands.execute(CommandIDs.refresh)}
                trans={trans}
              />
            )}
          </UseSignal>
        )}
      </UseSignal>
    );
  }

  /** What else is possible, besides the card's own button. */
  private _menuOf(compute: ICompute, primary: PrimaryAction | null): string[] {
    const { commands } = this._options;
    const onButton = primary && COMMAND_OF[primary];
    return MENU.filter(id => id !== onButton && commands.isEnabled(id, { compute: compute.id }));
  }

  private _openMenu(compute: ICompute, items: readonly string[], anchor: HTMLElement): void {
    const menu = newMenu(this._options.commands);
    for (const command of items) {
      menu.addItem({ command, args: { compute: compute.id } });
    }
    openMenu(menu, anchor);
  }

  private _openAccountMenu(anchor: HTMLElement): void {
    const { commands } = this._options;
    const menu = newMenu(commands);
    for (const command of [CommandIDs.signIn, CommandIDs.signOut]) {
      if (commands.isEnabled(command)) {
        menu.addItem({ command, args: { menu: true } });
      }
    }
    openMenu(menu, anchor);
  }

  private async _cancel(operation: IOperation, choice: CancelChoice): Promise<void> {
    try {
      await this._options.model.cancel(operation.id, choice === 'release');
    } catch {
      // It has ended in between, or the server is away: fetching again shows which.
      await this._options.commands.execute(CommandIDs.refresh);
    }
  }
}

export namespace ComputePanel {
  export interface IOptions {
    model: IComputeModel;
    current: ICurrentNotebook;
    commands: CommandRegistry;
    trans: TranslationBundle;
  }
}
