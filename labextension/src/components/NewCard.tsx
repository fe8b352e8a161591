import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { CancelChoice } from '../actions';
import { IOperation } from '../api';
import { h } from '../jsx';
import { operationText } from '../words';
import { OperationProgress } from './OperationProgress';
import { Problem } from './Problem';
import { ToneIcon } from './ToneIcon';

export interface INewCardProps {
  operation: IOperation;
  onCancel: (choice: CancelChoice) => void;
  onDismiss: () => void;
  trans: TranslationBundle;
}

/** A machine that is being made, or was not: it is in no list yet. */
export function NewCard(props: INewCardProps): React.ReactElement {
  const { operation, trans } = props;
  const isRunning = operation.state === 'running';
  const tone = isRunning ? 'busy' : 'gone';
  const name = trans.__('New machine');
  return (
    <li className="jp-Dsvm-card" data-tone={tone} aria-label={name}>
      <div className="jp-Dsvm-cardHeader">
        <ToneIcon tone={tone} />
        <h4>{name}</h4>
      </div>
      {isRunning ? (
        <>
          <p className="jp-Dsvm-state" role="status" aria-live="polite">
            {operationText(operation, trans)}
          </p>
          <OperationProgress operation={operation} onCancel={props.onCancel} trans={trans} />
        </>
      ) : (
        <Problem problem={operation.error} onDismiss={props.onDismiss} trans={trans} />
      )}
    </li>
  );
}
