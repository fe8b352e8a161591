import { ReactWidget } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { ICompute, IIdleRequest, IIdleStop, IProblem } from './api';
import { AutoStopForm, IAutoStopChoice } from './components/AutoStopForm';
import { h } from './jsx';
import { asProblem } from './request';
import { ISubmitting, SubmittingDialog } from './submitting';
import { IComputeModel } from './tokens';

export interface IAutoStopOptions {
  model: IComputeModel;
  compute: ICompute;
  trans: TranslationBundle;
}

/** What the fields hold before anybody has changed them, where the server has no value for them. */
const USUAL = { minutes: '30', hours: '12' };

/** Let the person choose when a machine is stopped by itself. The dialog stays open, with the reason, where that is refused. */
export async function autoStop(options: IAutoStopOptions): Promise<void> {
  const { compute, trans } = options;
  const dialog = new SubmittingDialog(new AutoStopBody(options), {
    title: trans.__('When is %1 stopped by itself?', compute.name),
    submit: trans.__('Save'),
    trans
  });
  await dialog.launch();
}

/** The fields for what is known now. */
export function choiceOf(idle: IIdleStop | null): IAutoStopChoice {
  return {
    whenIdle: !!idle && idle.state !== 'never' && idle.idle_minutes !== null,
    minutes: String(idle?.idle_minutes ?? USUAL.minutes),
    hasLimit: !!idle && idle.hard_limit_hours !== null,
    hours: String(idle?.hard_limit_hours ?? USUAL.hours),
    endKeep: false
  };
}

/** What to ask the server for: what was changed, so that the rest goes on following its settings. Null: a number is missing. */
export function idleRequest(choice: IAutoStopChoice, before: IAutoStopChoice): IIdleRequest | null {
  const minutes = choice.whenIdle ? positive(choice.minutes) : null;
  const hours = choice.hasLimit ? positive(choice.hours) : null;
  if (Number.isNaN(minutes) || Number.isNaN(hours)) {
    return null;
  }
  const hasOther = (one: keyof IAutoStopChoice, other: keyof IAutoStopChoice): boolean =>
    choice[one] !== before[one] || (!!choice[one] && choice[other] !== before[other]);
  return {
    ...(hasOther('whenIdle', 'minutes') && { idle_minutes: minutes }),
    ...(hasOther('hasLimit', 'hours') && { hard_limit_hours: hours }),
    ...(choice.endKeep && { keep_seconds: 0 })
  };
}

function positive(text: string): number {
  const value = Number(text.trim().replace(',', '.'));
  return value > 0 && Number.isFinite(value) ? value : NaN;
}

class AutoStopBody extends ReactWidget implements ISubmitting {
  constructor(private readonly _options: IAutoStopOptions) {
    super();
    this.addClass('jp-Dsvm-submittingBody');
    this._before = this._choice = choiceOf(_options.compute.idle);
    // What it does may change while the person reads.
    _options.model.stateChanged.connect(this._onState, this);
  }

  async submit(): Promise<boolean> {
    const { model, compute, trans } = this._options;
    if (this._isSending) {
      return false;
    }
    const body = idleRequest(this._choice, this._before);
    if (!body) {
      this._say(trans.__('Enter a number that is greater than 0.'));
      return false;
    }
    if (Object.keys(body).length === 0) {
      return true; // as it was
    }
    this._isSending = true;
    this._problem = null;
    this._say(trans.__('Saving…'));
    try {
      await model.setIdle(compute.id, body);
      return true;
    } catch (reason) {
      this._problem = asProblem(reason);
      this._say('');
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
    const { model, compute, trans } = this._options;
    return (
      <AutoStopForm
        compute={model.compute(compute.id) ?? compute}
        choice={this._choice}
        problem={this._problem}
        said={this._said}
        onChange={change => {
          this._choice = { ...this._choice, ...change };
          this._say('');
        }}
        trans={trans}
      />
    );
  }

  private _onState(): void {
    this.update();
  }

  private _say(said: string): void {
    this._said = said;
    this.update();
  }

  private readonly _before: IAutoStopChoice;
  private _choice: IAutoStopChoice;
  private _problem: IProblem | null = null;
  private _said = '';
  private _isSending = false;
}
