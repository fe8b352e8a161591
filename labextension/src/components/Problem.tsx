import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { IProblem } from '../api';
import { h } from '../jsx';
import { Linked } from './Linked';

export interface IProblemProps {
  /** Null where the server says that something failed but not why. */
  problem: IProblem | null;
  onDismiss?: () => void;
  onRetry?: () => void;
  /** The person can sign in again, and that may help. */
  onSignIn?: () => void;
  /** More buttons. */
  children?: React.ReactNode;
  trans: TranslationBundle;
}

/** What was tried, what the other side said, and what to do next. */
export function Problem(props: IProblemProps): React.ReactElement {
  const { problem, onDismiss, onRetry, onSignIn, trans } = props;
  return (
    <div className="jp-Dsvm-problem" role="alert" data-code={problem?.code}>
      <p>
        <Linked
          text={problem?.message ?? trans.__('It failed, and the server does not say why.')}
        />
      </p>
      {problem?.advice && (
        <p className="jp-Dsvm-advice">
          <Linked text={problem.advice} />
        </p>
      )}
      {(onRetry || onSignIn || props.children || onDismiss) && (
        <div className="jp-Dsvm-buttons">
          {onRetry && (
            <button className="jp-mod-styled" onClick={onRetry}>
              {trans.__('Try again')}
            </button>
          )}
          {onSignIn && (
            <button className="jp-mod-styled" onClick={onSignIn}>
              {trans.__('Sign in again')}
            </button>
          )}
          {props.children}
          {onDismiss && (
            <button className="jp-mod-styled" onClick={onDismiss}>
              {trans.__('Dismiss')}
            </button>
          )}
        </div>
      )}
    </div>
  );
}

/** The details of a problem that is said already. */
export function Explanation(props: {
  problem: IProblem | null;
  onDismiss: () => void;
  /** What leads on. */
  children?: React.ReactNode;
  trans: TranslationBundle;
}): React.ReactElement {
  const { problem, trans } = props;
  return (
    <div className="jp-Dsvm-explanation" data-code={problem?.code}>
      <details>
        <summary>{trans.__('What Azure said')}</summary>
        <p>
          <Linked text={problem?.message ?? ''} />
        </p>
        <p className="jp-Dsvm-advice">
          <Linked text={problem?.advice ?? ''} />
        </p>
      </details>
      <div className="jp-Dsvm-buttons">
        {props.children}
        <button className="jp-mod-styled" onClick={props.onDismiss}>
          {trans.__('Dismiss')}
        </button>
      </div>
    </div>
  );
}
