import { TranslationBundle } from '@jupyterlab/translation';
import { checkIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { IOperation, StepPhase } from '../api';
import { toneIcons } from '../icons';

export interface IOperationProgressProps {
  operation: IOperation;
  onCancel: () => void;
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
      <button className="jp-mod-styled jp-Dsvm-cancel" onClick={props.onCancel}>
        {trans.__('Cancel')}
      </button>
    </div>
  );
}
