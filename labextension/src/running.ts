import { PathExt } from '@jupyterlab/coreutils';
import { IRunningSessions } from '@jupyterlab/running';
import { TranslationBundle } from '@jupyterlab/translation';
import { notebookIcon } from '@jupyterlab/ui-components';
import { CommandRegistry } from '@lumino/commands';
import { ISignal, Signal } from '@lumino/signaling';

import { canChange, machinesOf } from './actions';
import { ICompute, PowerState } from './api';
import { CommandIDs } from './commands';
import { computeIcon } from './icons';
import { asProblem } from './request';
import { computeState } from './states';
import { showTexts } from './texts';
import { IComputeModel } from './tokens';
import { priceText, shortState } from './words';

/** On, or billed, or about to be: what somebody who looks for what still runs must see. */
const SHOWN: readonly PowerState[] = ['starting', 'running', 'stopping', 'stopped', 'deallocating'];

/** The machines of the Running section: those that are on or changing, and any that notebooks run on. */
export function runningMachines(model: IComputeModel): ICompute[] {
  return machinesOf(model).filter(
    compute =>
      compute.attached.length > 0 ||
      (compute.kind === 'dsvm' &&
        (SHOWN.includes(compute.power_state) || model.runningOn(compute.id) !== undefined))
  );
}

/** The section “Virtual Machines” of the Running panel. */
export class RunningMachines implements IRunningSessions.IManager {
  constructor(private readonly _options: RunningMachines.IOptions) {
    const { model, trans } = _options;
    this.name = trans.__('Virtual Machines');
    this.shutdownAllLabel = trans.__('Stop All');
    model.stateChanged.connect(this._onChanged, this);
  }

  readonly name: string;
  readonly shutdownAllLabel: string;
  readonly supportsMultipleViews = true;

  get runningChanged(): ISignal<this, void> {
    return this._runningChanged;
  }

  shutdownLabel = (): string => this._options.trans.__('Stop');

  /** Asked before all are stopped; JupyterLab shows it. */
  shutdownAllConfirmationText = (): string => {
    const { trans } = this._options;
    const machines = this._stoppable();
    if (machines.length === 0) {
      return trans.__('There is no machine that could be stopped now.');
    }
    const names = machines.map(({ name }) => name).join(', ');
    const notebooks = machines.flatMap(({ name, attached }) =>
      attached.map(path => trans.__('%1 (%2)', path, name))
    );
    return notebooks.length === 0
      ? trans.__('Stop %1? No notebook runs there.', names)
      : trans._n(
          'Stop %3? %2 runs there. Its variables will be lost, and it goes back to the free tier; the file and its outputs stay.',
          'Stop %3? These notebooks run there: %2. Their variables will be lost, and they go back to the free tier; the files and their outputs stay.',
          notebooks.length,
          notebooks.join(', '),
          names
        );
  };

  running({ mode }: { mode: 'tree' | 'list' }): IRunningSessions.IRunningItem[] {
    const machines = runningMachines(this._options.model);
    return machines.map(compute => this._item(compute, mode === 'tree'));
  }

  /** A person pressed the panel's button for it. */
  refreshRunning(): void {
    // A failure stays in the panel “Compute” with its advice.
    this._options.model.refresh().catch(() => undefined);
  }

  /** JupyterLab has asked, with the text above. */
  shutdownAll(): void {
    void this._stopAll(this._stoppable());
  }

  private async _stopAll(machines: readonly ICompute[]): Promise<void> {
    const { model, trans } = this._options;
    const failures = await Promise.all(
      machines.map(async ({ id, name }) => {
        try {
          await model.change(id, 'stop');
          return [];
        } catch (reason) {
          const { message, advice } = asProblem(reason);
          return [trans.__('%1: %2', name, [message, advice].filter(Boolean).join(' '))];
        }
      })
    );
    if (failures.flat().length > 0) {
      await showTexts(trans.__('Not every machine was stopped'), failures.flat());
    }
  }

  private _item(compute: ICompute, tree: boolean): IRunningSessions.IRunningItem {
    const { model, commands, trans } = this._options;
    const operation = model.runningOn(compute.id);
    const state = computeState({ compute, operation }, trans);
    const open = (): void => void commands.execute(CommandIDs.open);
    return {
      icon: () => computeIcon,
      label: () =>
        [compute.name, shortState(compute, operation, trans)].filter(Boolean).join(' · '),
      labelTitle: () => trans.__('%1: %2', compute.name, state.text),
      detail: () => (compute.price ? priceText(compute.price, trans) : ''),
      open,
      // A machine that is changing cannot be stopped, and a host not from here at all.
      shutdown: this._canStop(compute)
        ? () => void commands.execute(CommandIDs.stop, { compute: compute.id, ask: true })
        : undefined,
      children: tree && compute.attached.length > 0 ? this._notebooks(compute, open) : undefined
    };
  }

  private _notebooks(compute: ICompute, open: () => void): IRunningSessions.IRunningItem[] {
    const { trans } = this._options;
    return compute.attached.map(path => ({
      icon: () => notebookIcon,
      label: () => PathExt.basename(path),
      labelTitle: () => trans.__('%1 runs on %2', path, compute.name),
      open
    }));
  }

  private _stoppable(): ICompute[] {
    return runningMachines(this._options.model).filter(compute => this._canStop(compute));
  }

  private _canStop(compute: ICompute): boolean {
    return canChange(compute, this._options.model.runningOn(compute.id), 'stop');
  }

  private _onChanged(): void {
    this._runningChanged.emit();
  }

  private readonly _runningChanged = new Signal<this, void>(this);
}

export namespace RunningMachines {
  export interface IOptions {
    model: IComputeModel;
    commands: CommandRegistry;
    trans: TranslationBundle;
  }
}
