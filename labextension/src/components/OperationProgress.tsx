import { TranslationBundle } from '@jupyterlab/translation';
import { checkIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { CancelChoice, cancelChoices } from '../actions';
import { IOperation, StepPhase } from '../api';
import { toneIcons } from '../icons';
import { h } from '../jsx';
import { elsewhereText } from '../words';

export interface IOperationProgressProps {
  operation: IOperation;
  onCancel: (choice: CancelChoice) => void;
  trans: TranslationBundle;
}

const STEP_ICONS = {
  pending: toneIcons.off,
  running: toneIcons.busy,
  done: checkIcon,
  failed: toneIcons.gone
};

/** A running operation: how far it is, step by step, and a way to stop it. */
export function OperationProgress(props: IOperationProgressProps): React.ReactElement {
  const { operation, trans } = props;
  const words: Record<StepPhase, string> = {
    pending: trans.__('to do'),
    running: trans.__('under way'),
    done: trans.__('done'),
    failed: trans.__('failed')
  };
  const labels: Record<CancelChoice, string> = {
    cancel: trans.__('Cancel'),
    wait: trans.__('Stop waiting'),
    release: trans.__('Stop waiting and release')
  };
  const choices = cancelChoices(operation);
  return (
    <div className="jp-Dsvm-operation">
      <progress aria-label={trans.__('Progress')} max={1} value={operation.progress ?? undefined} />
      <ol className="jp-Dsvm-steps">
        {operation.steps.map(step => {
          const Icon = STEP_ICONS[step.state];
          return (
            <li
              key={step.name}
              data-step={step.name}
              data-state={step.state}
              aria-current={step.state === 'running' ? 'step' : undefined}
            >
              <span aria-hidden="true">
                <Icon.react tag={null} />
              </span>
              <span>
                {step.text}
                <span className="jp-Dsvm-hidden"> ({words[step.state]})</span>
              </span>
            </li>
          );
        })}
      </ol>
      {operation.elsewhere && <p className="jp-Dsvm-quiet">{elsewhereText(trans)}</p>}
      {choices.length > 0 && (
        <div className="jp-Dsvm-buttons">
          {choices.map(choice => (
            <button key={choice} className="jp-mod-styled" onClick={() => props.onCancel(choice)}>
              {labels[choice]}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}
