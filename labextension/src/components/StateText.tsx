import * as React from 'react';

import { h } from '../jsx';
import { IComputeState } from '../states';

/** Milliseconds; nobody wants to see seconds run by. */
const TICK = 10_000;

/**
 * A state in words, in the one live region of its card.
 *
 * Where the words go with the time, those are for the eyes; a screen reader hears, and finds, the words that stay the same.
 */
export function StateText(props: { state: IComputeState; title?: string }): React.ReactElement {
  const { state, title } = props;
  const text = <Emphasised text={state.text} strong={state.strong} />;
  return (
    <>
      {state.shown && <Passing shown={state.shown} title={title} />}
      <p
        className={state.shown ? 'jp-Dsvm-hidden' : 'jp-Dsvm-state'}
        role="status"
        aria-live="polite"
        title={state.shown ? undefined : title}
      >
        {text}
      </p>
    </>
  );
}

function Passing(props: { shown: (now: number) => string; title?: string }): React.ReactElement {
  const [now, setNow] = React.useState(Date.now);
  React.useEffect(() => {
    const timer = window.setInterval(() => setNow(Date.now()), TICK);
    return () => window.clearInterval(timer);
  }, []);
  return (
    <p className="jp-Dsvm-state" aria-hidden="true" title={props.title}>
      {props.shown(now)}
    </p>
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
