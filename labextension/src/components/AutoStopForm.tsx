import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { ICompute, IProblem } from '../api';
import { idleOf, soonText, stayText, stopText, isStoppedSoon } from '../idlewords';
import { h } from '../jsx';
import { withPoint } from '../words';
import { Problem } from './Problem';

/** What is chosen. Numbers are as they were typed. */
export interface IAutoStopChoice {
  /** Whether it is stopped for being idle at all. */
  whenIdle: boolean;
  minutes: string;
  hasLimit: boolean;
  hours: string;
  /** Whether it is no longer kept on. */
  endKeep: boolean;
}

export interface IAutoStopFormProps {
  compute: ICompute;
  choice: IAutoStopChoice;
  /** Why it was not saved. */
  problem: IProblem | null;
  /** What is going on, or what is missing. */
  said: string;
  onChange: (change: Partial<IAutoStopChoice>) => void;
  trans: TranslationBundle;
}

/** What is often chosen, in minutes. */
const MINUTES = [15, 30, 60, 120];

/** The body of the dialog “Auto-stop”. */
export function AutoStopForm(props: IAutoStopFormProps): React.ReactElement {
  const { compute, choice, problem, onChange, trans } = props;
  const idle = idleOf(compute);
  const now = isStoppedSoon(idle)
    ? soonText(idle, trans)
    : [stayText(compute, trans), stopText(idle, trans)].filter(Boolean).join(' ');
  return (
    <div className="jp-Dsvm-autoStop">
      {problem && <Problem problem={problem} trans={trans} />}
      {now && <p>{now}</p>}
      <fieldset>
        <legend>{trans.__('When nobody uses it')}</legend>
        <label className="jp-Dsvm-check">
          <input
            data-first
            type="radio"
            name="jp-Dsvm-when-idle"
            checked={choice.whenIdle}
            onChange={() => onChange({ whenIdle: true })}
          />
          <span>{trans.__('Stop it after a while')}</span>
        </label>
        <NumberField
          label={trans.__('Minutes')}
          value={choice.minutes}
          list="jp-dsvm-minutes"
          disabled={!choice.whenIdle}
          onChange={minutes => onChange({ minutes })}
        />
        <datalist id="jp-dsvm-minutes">
          {MINUTES.map(minutes => (
            <option key={minutes} value={minutes} />
          ))}
        </datalist>
        <label className="jp-Dsvm-check">
          <input
            type="radio"
            name="jp-Dsvm-when-idle"
            checked={!choice.whenIdle}
            onChange={() => onChange({ whenIdle: false })}
          />
          <span>{trans.__('Never stop it; it is billed until somebody does')}</span>
        </label>
      </fieldset>
      <fieldset>
        <legend>{trans.__('Whatever runs')}</legend>
        <label className="jp-Dsvm-check">
          <input
            type="checkbox"
            checked={choice.hasLimit}
            onChange={event => onChange({ hasLimit: event.target.checked })}
          />
          <span>{trans.__('Stop it some hours after it was started, also while a cell runs')}</span>
        </label>
        <NumberField
          label={trans.__('Hours')}
          value={choice.hours}
          disabled={!choice.hasLimit}
          onChange={hours => onChange({ hours })}
        />
      </fieldset>
      {idle?.kept_until && (
        <label className="jp-Dsvm-check">
          <input
            type="checkbox"
            checked={choice.endKeep}
            onChange={event => onChange({ endKeep: event.target.checked })}
          />
          <span>{trans.__('No longer keep it on')}</span>
        </label>
      )}
      {idle?.safety && <p className="jp-Dsvm-quiet">{withPoint(idle.safety.text)}</p>}
      <p role="status" className="jp-Dsvm-missing">
        {props.said}
      </p>
    </div>
  );
}

interface INumberFieldProps {
  label: string;
  value: string;
  disabled: boolean;
  /** The id of the `datalist` with what is often chosen. */
  list?: string;
  onChange: (value: string) => void;
}

function NumberField(props: INumberFieldProps): React.ReactElement {
  const { label, onChange, ...rest } = props;
  return (
    <label className="jp-Dsvm-number">
      <span>{label}</span>
      <input
        className="jp-mod-styled"
        type="number"
        step="any"
        {...rest}
        onChange={event => onChange(event.target.value)}
      />
    </label>
  );
}
