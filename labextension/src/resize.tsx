import { ReactWidget } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { ICompute, IProblem, ISizeOfferList } from './api';
import { SizeChoice } from './components/SizeChoice';
import { h } from './jsx';
import { asProblem } from './request';
import { ISubmitting, SubmittingDialog } from './submitting';
import { IComputeModel } from './tokens';

export interface IResizeOptions {
  model: IComputeModel;
  compute: ICompute;
  /** Whether sizes with a GPU are left out to begin with: a free account gets none. */
  withoutGpu?: boolean;
  trans: TranslationBundle;
}

/** Let the person choose a size, and have it changed. The dialog stays open, with the reason, where that is refused. */
export async function resize(options: IResizeOptions): Promise<void> {
  const body = new ResizeBody(options);
  const { compute, trans } = options;
  const title = trans.__('Resize %1', compute.name);
  const dialog = new SubmittingDialog(body, { title, submit: trans.__('Resize'), trans });
  void body.load();
  await dialog.launch();
}

class ResizeBody extends ReactWidget implements ISubmitting {
  constructor(private readonly _options: IResizeOptions) {
    super();
    this.addClass('jp-Dsvm-submittingBody');
    // Which notebooks run there may change while the person reads.
    _options.model.stateChanged.connect(this._onState, this);
  }

  async load(): Promise<void> {
    const { model, compute } = this._options;
    try {
      this._offers = await model.sizes(compute.id);
    } catch (reason) {
      this._problem = asProblem(reason);
    }
    this.update();
  }

  /** Whether it has begun. Where something is missing, it says what. */
  async submit(): Promise<boolean> {
    const { model, trans } = this._options;
    if (this._isSending) {
      return false;
    }
    if (!this._offers || this._offers.sizes.length === 0) {
      this._say(trans.__('There is no size to choose.'));
      return false;
    }
    if (!this._chosen) {
      this._say(trans.__('Choose a size first.'));
      return false;
    }
    const notebooks = this._compute.attached.length;
    if (notebooks > 0 && !this._endKernels) {
      this._say(trans.__('Kernels run there. Tick the box if they may end.'));
      return false;
    }
    this._isSending = true;
    this._problem = null;
    this._say(trans.__('Asking Azure…'));
    try {
      await model.resize(this._compute.id, {
        size: this._chosen,
        ...(notebooks > 0 ? { end_kernels: true } : {})
      });
      return true;
    } catch (reason) {
      this._problem = asProblem(reason);
      this._say('');
      this.node.scrollTo?.({ top: 0 });
      return false;
    } finally {
      this._isSending = false;
    }
  }

  dispose(): void {
    this._options.model.stateChanged.disconnect(this._onState, this);
    super.dispose();
  }

  protected render(): React.ReactElement {
    return (
      <SizeChoice
        compute={this._compute}
        offers={this._offers}
        problem={this._problem}
        notebooks={this._compute.attached}
        chosen={this._chosen}
        endKernels={this._endKernels}
        missing={this._missing}
        withoutGpu={this._options.withoutGpu}
        onChoose={size => {
          this._chosen = size;
          this._say('');
        }}
        onEndKernels={end => {
          this._endKernels = end;
          this._say('');
        }}
        trans={this._options.trans}
      />
    );
  }

  private get _compute(): ICompute {
    const { model, compute } = this._options;
    return model.compute(compute.id) ?? compute;
  }

  private _onState(): void {
    this.update();
  }

  private _say(missing: string): void {
    this._missing = missing;
    this.update();
  }

  private _offers: ISizeOfferList | null = null;
  private _problem: IProblem | null = null;
  private _chosen = '';
  private _endKernels = false;
  private _missing = '';
  private _isSending = false;
}
