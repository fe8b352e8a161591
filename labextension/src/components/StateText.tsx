import * as React from 'react';

import { useNow } from '../clock';
import { h } from '../jsx';
import { IComputeState } from '../states';

/**
 * A state in words, in the one live region of its card.
 *
 * Where the words go with the time, those are for the eyes; a screen reader hears, and finds, the words that stay the same.
 */
export function StateText(props: { state: IComputeState; title?: string }): React.ReactElement {
  const { state, title } = props;
  const now = useNow(!!state.shown);
  return (
    <>
      {state.shown && (
        <p className="jp-Dsvm-state" aria-hidden="true" title={title}>
          <Emphasised text={state.shown(now)} strong={state.strong} />
        </p>
      )}
      <p
        className={state.shown ? 'jp-Dsvm-hidden' : 'jp-Dsvm-state'}
        role="status"
        aria-live="polite"
        title={state.shown ? undefined : title}
      >
        <Emphasised text={state.text} strong={state.strong} />
      </p>
      {state.detail && <p className="jp-Dsvm-hidden">{state.detail}</p>}
    </>
  );
}

function Emphasised(props: { text: string; strong?: string }): React.ReactElement {
  const { text, strong } = props;
  const at = strong ? text.indexOf(strong) : -1;
  return strong && at >= 0 ? (
    <>
      {text.slice(0, at)}
      <strong>{strong}</strong>
      {text.slice(at + strong.length)}
    </>
  ) : (
    <>{text}</>
  );
}
