import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { IProblem } from '../api';

export interface IProblemProps {
  /** Null where the server says that something failed but not why. */
  problem: IProblem | null;
  onDismiss?: () => void;
  onRetry?: () => void;
  trans: TranslationBundle;
}

/** What was tried, what the other side said, and what to do next. */
export function Problem(props: IProblemProps): React.ReactElement {
  const { problem, onDismiss, onRetry, trans } = props;
  return (
    <div className="jp-Dsvm-problem" role="alert" data-code={problem?.code}>
      <p>{problem?.message ?? trans.__('It failed, and the server does not say why.')}</p>
      {problem?.advice && <p className="jp-Dsvm-advice">{problem.advice}</p>}
      {onRetry && (
        <button className="jp-mod-styled" onClick={onRetry}>
          {trans.__('Try again')}
        </button>
      )}
      {onDismiss && (
        <button className="jp-mod-styled" onClick={onDismiss}>
          {trans.__('Dismiss')}
        </button>
      )}
    </div>
  );
}
