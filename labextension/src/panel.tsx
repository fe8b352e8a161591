import { ReactWidget, UseSignal } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import { ReadonlyPartialJSONObject } from '@lumino/coreutils';
import { Message } from '@lumino/messaging';
import * as React from 'react';

import { CancelChoice, machinesOf } from './actions';
import { ICompute, IOperation } from './api';
import { IsShown } from './clock';
import { CommandIDs } from './commands';
import { ComputePanelView } from './components/ComputePanelView';
import { WatchedGauges } from './components/WatchedGauges';
import { ICurrentNotebook } from './current';
import { fileActions } from './files';
import { Filters } from './filters';
import { computeIcon } from './icons';
import { h } from './jsx';
import { addPlaces, newMenu, openMenu } from './menu';
import { ISettings } from './settings';
import { PrimaryAction } from './states';
import { IComputeModel, IMetricsModel } from './tokens';

const COMMAND_OF: Record<PrimaryAction, string> = {
  attach: CommandIDs.attach,
  detach: CommandIDs.detach,
  start: CommandIDs.start,
  release: CommandIDs.stop,
  reconnect: CommandIDs.reconnect,
  resize: CommandIDs.resize,
  cpuSizes: CommandIDs.resize,
  quota: '',
  keep: CommandIDs.keepOn,
  autoStop: CommandIDs.autoStop
};

/** What is behind a card's menu button, in this order, as far as it is possible now. */
const MENU = [
  CommandIDs.attach,
  CommandIDs.detach,
  CommandIDs.start,
  CommandIDs.stop,
  CommandIDs.restart,
  CommandIDs.resize,
  CommandIDs.keepOn,
  CommandIDs.autoStop,
  CommandIDs.openTerminal,
  CommandIDs.copySSH
];

/** With more machines than these a menu is no longer something to choose from, and a dialog with a list is. */
const LONGEST_MENU = 20;

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
    const { model, current, filters, settings } = this._options;
    return (
      <UseSignal signal={model.stateChanged}>
        {() => (
          <UseSignal signal={current.changed}>
            {() => (
              <UseSignal signal={filters.changed}>
                {() => (
                  <UseSignal signal={settings.changed}>
                    {() => (
                      <IsShown.Provider value={this.isVisible}>
                        {this._renderView()}
                      </IsShown.Provider>
                    )}
                  </UseSignal>
                )}
              </UseSignal>
            )}
          </UseSignal>
        )}
      </UseSignal>
    );
  }

  private _renderView(): React.ReactElement {
    const { model, current, commands, filters, settings, trans } = this._options;
    const execute = (command: string, args?: ReadonlyPartialJSONObject) =>
      void commands.execute(command, args);
    return (
      <ComputePanelView
        model={model}
        notebook={current.notebook}
        defaultAction={settings.defaultAction}
        keepHours={settings.keepOnHours}
        gauge={this._gauge()}
        filters={filters.value}
        onFilters={change => filters.set(change)}
        onAction={({ id }, action) =>
          execute(COMMAND_OF[action], {
            compute: id,
            ...(action === 'cpuSizes' ? { withoutGpu: true } : {})
          })
        }
        menuOf={(compute, primary) => this._menuOf(compute, primary)}
        onMenu={(compute, items, anchor) => this._openMenu(compute, items, anchor)}
        onMoveTo={anchor => this._openPlaces(anchor)}
        onDetach={() => execute(CommandIDs.detach)}
        onCancel={(operation, choice) => void this._cancel(operation, choice)}
        onAccountMenu={anchor => this._openAccountMenu(anchor)}
        files={fileActions({ model, commands, trans })}
        onLoadVariables={() => execute(CommandIDs.loadVariables)}
        onForgetVariables={() => execute(CommandIDs.forgetVariables)}
        onCreate={() => execute(CommandIDs.create)}
        onRefresh={() => execute(CommandIDs.refresh)}
        onSettings={
          commands.isEnabled(CommandIDs.openSettings)
            ? () => execute(CommandIDs.openSettings)
            : undefined
        }
        trans={trans}
      />
    );
  }

  // While the panel is hidden nobody looks at how much is in use.

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.update();
  }

  protected onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this.update();
  }

  /** How much of where the notebook runs is in use. */
  private _gauge(): React.ReactNode {
    const { model, metrics, current, trans } = this._options;
    const kernel = model.kernel(current.notebook?.kernelId ?? null);
    return (
      metrics &&
      kernel &&
      this.isVisible && <WatchedGauges metrics={metrics} compute={kernel.compute} trans={trans} />
    );
  }

  /** What else is possible, besides the card's own button. */
  private _menuOf(compute: ICompute, primary: PrimaryAction | null): string[] {
    const { commands, current, model } = this._options;
    const onButton = primary && COMMAND_OF[primary];
    const kernel = model.kernel(current.notebook?.kernelId ?? null);
    return MENU.filter(
      id =>
        id !== onButton &&
        // The notebook in front can be brought back from where it runs, and from there only.
        (id !== CommandIDs.detach || kernel?.compute === compute.id) &&
        commands.isEnabled(id, { compute: compute.id })
    );
  }

  private _openMenu(compute: ICompute, items: readonly string[], anchor: HTMLElement): void {
    const menu = newMenu(this._options.commands);
    for (const command of items) {
      menu.addItem({ command, args: { compute: compute.id } });
    }
    openMenu(menu, anchor);
  }

  /** Where the notebook can go. Of hundreds of machines one is picked in a dialog. */
  private _openPlaces(anchor: HTMLElement): void {
    const { commands, model } = this._options;
    const machines = machinesOf(model);
    if (machines.length > LONGEST_MENU && commands.isEnabled(CommandIDs.attach)) {
      void commands.execute(CommandIDs.attach);
      return;
    }
    const menu = newMenu(commands);
    addPlaces(menu, machines);
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
    metrics: IMetricsModel | null;
    current: ICurrentNotebook;
    filters: Filters;
    settings: Pick<ISettings, 'defaultAction' | 'keepOnHours' | 'changed'>;
    commands: CommandRegistry;
    trans: TranslationBundle;
  }
}
