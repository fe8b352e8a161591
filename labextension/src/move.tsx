import { Dialog, ReactWidget, showDialog } from '@jupyterlab/apputils';
import { IStateDB } from '@jupyterlab/statedb';
import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { FREE, ICompute, IKernel } from './api';
import { MoveSummary } from './components/MoveSummary';
import { IComputeModel } from './tokens';
import { nameOf } from './words';

/** Which machines this person has attached to before: the first time says what that allows. */
export interface IKnownComputes {
  has(compute: string): Promise<boolean>;
  add(compute: string): Promise<void>;
}

const STATE_KEY = 'jupyter-dsvm:known-computes';

/** Kept in JupyterLab's state database where there is one, otherwise for as long as the page lives. */
export class KnownComputes implements IKnownComputes {
  constructor(private readonly _state: IStateDB | null) {}

  async has(compute: string): Promise<boolean> {
    return (await this._read()).has(compute);
  }

  async add(compute: string): Promise<void> {
    const known = (await this._read()).add(compute);
    this._known = known;
    await this._state?.save(STATE_KEY, [...known]);
  }

  private async _read(): Promise<Set<string>> {
    if (!this._known) {
      const saved = await this._state?.fetch(STATE_KEY);
      this._known = new Set(Array.isArray(saved) ? saved.filter(id => typeof id === 'string') : []);
    }
    return this._known;
  }

  private _known: Set<string> | undefined;
}

export interface IMoveOptions {
  model: IComputeModel;
  kernel: IKernel;
  /** Where to. */
  compute: ICompute;
  /** The notebook's file name. */
  notebook: string;
  /** Whether a cell is running, so that the move waits for it. */
  busy: boolean;
  known: IKnownComputes;
  trans: TranslationBundle;
}

export interface IMoveAnswer {
  /** Which kernel there; undefined leaves the choice to the server. */
  kernelspec?: string;
}

/** Say what a move does and ask whether to. Resolves with null if not. */
export async function askToMove(options: IMoveOptions): Promise<IMoveAnswer | null> {
  const { compute, notebook, known, trans } = options;
  const firstTime = compute.id !== FREE && !(await known.has(compute.id));
  const answer = await showDialog<IMoveAnswer>({
    title: trans.__('Move %1 to %2?', notebook, nameOf(compute, compute.id, trans)),
    body: new MoveBody(options, firstTime),
    buttons: [
      Dialog.cancelButton({ label: trans.__('Cancel') }),
      Dialog.okButton({ label: trans.__('Move') })
    ],
    defaultButton: 1
  });
  if (!answer.button.accept) {
    return null;
  }
  if (firstTime) {
    await known.add(compute.id);
  }
  return answer.value ?? {};
}

class MoveBody extends ReactWidget implements Dialog.IBodyWidget<IMoveAnswer> {
  constructor(
    private readonly _options: IMoveOptions,
    private readonly _firstTime: boolean
  ) {
    super();
    this.addClass('jp-Dsvm-move');
  }

  getValue(): IMoveAnswer {
    return this._kernelspec ? { kernelspec: this._kernelspec } : {};
  }

  protected render(): React.ReactElement {
    const { model, compute, kernel, busy, trans } = this._options;
    const asks = compute.kind !== 'free' && compute.power_state === 'running';
    return (
      <MoveSummary
        compute={compute}
        from={nameOf(model.compute(kernel.compute), kernel.compute, trans)}
        busy={busy}
        firstTime={this._firstTime}
        loadKernelspecs={asks ? () => model.kernelspecs(compute.id) : undefined}
        onKernelspec={name => {
          this._kernelspec = name;
        }}
        trans={trans}
      />
    );
  }

  private _kernelspec = '';
}
