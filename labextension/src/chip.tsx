import { ReactWidget, UseSignal } from '@jupyterlab/apputils';
import { NotebookPanel } from '@jupyterlab/notebook';
import { TranslationBundle } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import * as React from 'react';

import { machinesOf } from './actions';
import { CommandIDs } from './commands';
import { ToneIcon } from './components/ToneIcon';
import { newMenu, openMenu } from './menu';
import { IComputeModel } from './tokens';
import { chipText, IChipText } from './words';

/** The toolbar item that says where this notebook runs. It shows nothing where nothing can be said. */
export class ComputeChip extends ReactWidget {
  constructor(private readonly _options: ComputeChip.IOptions) {
    super();
    this.addClass('jp-Dsvm-chip');
  }

  protected render(): React.ReactElement {
    const { model, panel } = this._options;
    return (
      <UseSignal signal={model.stateChanged}>
        {() => (
          <UseSignal signal={panel.sessionContext.kernelChanged}>
            {() => this._renderButton()}
          </UseSignal>
        )}
      </UseSignal>
    );
  }

  private _renderButton(): React.ReactElement | null {
    const { trans } = this._options;
    const said = this._said();
    if (!said) {
      return null;
    }
    return (
      <button
        className="jp-Dsvm-chipButton"
        data-tone={said.tone}
        aria-haspopup="menu"
        aria-label={trans.__('This notebook runs on: %1', said.text)}
        title={trans.__('This notebook runs on: %1. Click to move it.', said.text)}
        onClick={event => this._openMenu(event.currentTarget)}
      >
        <ToneIcon tone={said.tone} />
        <span className="jp-Dsvm-chipText">{said.text}</span>
      </button>
    );
  }

  private _said(): IChipText | null {
    const { model, trans } = this._options;
    const kernel = model.status === 'ready' ? model.kernel(this._kernelId) : undefined;
    if (!kernel) {
      return null;
    }
    const moving = { operation: model.moving(kernel.id), target: model.compute(kernel.moving_to) };
    return chipText(kernel, model.compute(kernel.compute), moving, trans);
  }

  private get _kernelId(): string | null {
    return this._options.panel.sessionContext.session?.kernel?.id ?? null;
  }

  private _openMenu(anchor: HTMLElement): void {
    const { commands, model } = this._options;
    const kernel = this._kernelId ?? '';
    const menu = newMenu(commands);
    menu.addItem({ command: CommandIDs.detach, args: { kernel, menu: true } });
    for (const compute of machinesOf(model)) {
      menu.addItem({
        command: CommandIDs.attach,
        args: { compute: compute.id, kernel, menu: true }
      });
    }
    menu.addItem({ type: 'separator' });
    menu.addItem({ command: CommandIDs.open });
    openMenu(menu, anchor);
  }
}

export namespace ComputeChip {
  export interface IOptions {
    panel: NotebookPanel;
    model: IComputeModel;
    commands: CommandRegistry;
    trans: TranslationBundle;
  }
}
