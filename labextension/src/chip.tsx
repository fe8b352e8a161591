import { ReactWidget, UseSignal } from '@jupyterlab/apputils';
import { NotebookPanel } from '@jupyterlab/notebook';
import { TranslationBundle } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import * as React from 'react';

import { canAttach, machinesOf } from './actions';
import { FREE, ICompute, IKernel } from './api';
import { chipText, IChipText } from './chipwords';
import { Passing } from './clock';
import { CommandIDs } from './commands';
import { ToneIcon } from './components/ToneIcon';
import { idleOf } from './idlewords';
import { h } from './jsx';
import { newMenu, openMenu } from './menu';
import { IComputeModel } from './tokens';

/** The most machines that the menu names: a longer one is read by nobody, and the panel has filters. */
const MOST = 12;

/** Of a menu's entry, in px; JupyterLab's is 24 px high or a little more. */
const ENTRY = 28;

/** How many machines fit below the chip, beside the free tier, “More Machines…”, “Open Compute” and a line. */
export function roomFor(below: number): number {
  return Math.max(3, Math.min(MOST, Math.floor(below / ENTRY) - 4));
}

/**
 * The machines of the chip's menu: the one where the notebook runs, then those that it can move to, those that are on first.
 *
 * @param room how many may be named; `more` says whether that leaves some out
 */
export function chipMachines(
  model: Pick<IComputeModel, 'computes' | 'signIn' | 'runningOn'>,
  kernel: IKernel | undefined,
  room: number
): { machines: ICompute[]; more: boolean } {
  const here = (compute: ICompute): boolean =>
    compute.id !== FREE && compute.id === kernel?.compute;
  const possible = machinesOf(model).filter(
    compute => here(compute) || canAttach(compute, model.runningOn(compute.id), kernel)
  );
  const rank = (compute: ICompute): number =>
    here(compute) ? 0 : compute.power_state === 'running' ? 1 : 2;
  const sorted = [...possible].sort((one, other) => rank(one) - rank(other));
  return { machines: sorted.slice(0, room), more: sorted.length > room };
}

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

  private _renderButton(): React.ReactElement {
    const { model } = this._options;
    const stopsAt = idleOf(model.compute(model.kernel(this._kernelId)?.compute ?? null))?.stops_at;
    return <Passing isNeeded={!!stopsAt}>{now => this._renderAt(now)}</Passing>;
  }

  private _renderAt(now: number): React.ReactElement | null {
    const { trans } = this._options;
    const said = this._said(now);
    if (!said) {
      return null;
    }
    return (
      <button
        className="jp-Dsvm-chipButton"
        data-tone={said.tone}
        aria-haspopup="menu"
        aria-label={trans.__('This notebook runs on: %1', said.label ?? said.text)}
        title={trans.__('This notebook runs on: %1. Click to move it.', said.label ?? said.text)}
        onClick={event => this._openMenu(event.currentTarget)}
      >
        <ToneIcon tone={said.tone} />
        <span className="jp-Dsvm-chipText">{said.text}</span>
      </button>
    );
  }

  private _said(now: number): IChipText | null {
    const { model, trans } = this._options;
    const kernel = model.status === 'ready' ? model.kernel(this._kernelId) : undefined;
    if (!kernel) {
      return null;
    }
    const moving = {
      operation: model.moving(kernel.id),
      target: model.compute(kernel.moving_to),
      waiting: model.waiting(kernel.id)
    };
    return chipText(kernel, model.compute(kernel.compute), moving, now, trans);
  }

  private get _kernelId(): string | null {
    return this._options.panel.sessionContext.session?.kernel?.id ?? null;
  }

  private _openMenu(anchor: HTMLElement): void {
    const { commands, model } = this._options;
    const kernel = this._kernelId ?? '';
    const menu = newMenu(commands);
    menu.addItem({ command: CommandIDs.detach, args: { kernel, menu: true } });
    const below = window.innerHeight - anchor.getBoundingClientRect().bottom;
    const { machines, more } = chipMachines(model, model.kernel(kernel), roomFor(below));
    for (const { id } of machines) {
      menu.addItem({ command: CommandIDs.attach, args: { compute: id, kernel, menu: true } });
    }
    if (more) {
      menu.addItem({ command: CommandIDs.open, args: { more: true } });
    }
    menu.addItem({ type: 'separator' });
    const compute = model.kernel(kernel)?.compute ?? '';
    for (const command of [CommandIDs.keepOn, CommandIDs.autoStop]) {
      if (commands.isEnabled(command, { compute })) {
        menu.addItem({ command, args: { compute, menu: true } });
      }
    }
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
