import { Clipboard } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import { ellipsesIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { ISignIn } from '../api';
import { h } from '../jsx';
import { signInView } from '../signin';
import { ISignInModel, SignInView } from '../tokens';
import { signedInParts } from '../words';
import { useKeptFocus } from './keptFocus';
import { ExternalLink, Linked } from './Linked';
import { Problem } from './Problem';
import { SignInForm } from './SignInForm';

export interface ISignInProps {
  model: ISignInModel;
  /** Whether the list of machines lacks some because nobody is signed in. */
  isNeeded: boolean;
  /** Open the menu of somebody who is signed in. */
  onMenu: (anchor: HTMLElement) => void;
  trans: TranslationBundle;
}

/** Who is signed in to Azure, and the way in. */
export function SignIn(props: ISignInProps): React.ReactElement | null {
  const { model, isNeeded, trans } = props;
  const view = signInView(model, isNeeded);
  const region = useKeptFocus<HTMLDivElement>();
  if (view === 'hidden') {
    return null;
  }
  return (
    <div
      ref={region}
      className="jp-Dsvm-signIn"
      role="group"
      aria-label={trans.__('Azure sign-in')}
      data-view={view}
    >
      <Content {...props} view={view} />
    </div>
  );
}

function Content(props: ISignInProps & { view: SignInView }): React.ReactElement | null {
  const { model, view, trans } = props;
  const begin = () => void model.begin();
  const waysIn = (label: string) => (
    <div className="jp-Dsvm-buttons">
      <button data-first className="jp-mod-styled jp-mod-accept" onClick={begin}>
        {label}
      </button>
      <button className="jp-mod-styled" onClick={() => model.choose()}>
        {trans.__('Other ways…')}
      </button>
    </div>
  );
  switch (view) {
    case 'not_set_up':
      return (
        <>
          <p role="status">{trans.__('Connect your Azure subscription to use bigger machines.')}</p>
          {waysIn(trans.__('Sign in'))}
        </>
      );
    case 'expired':
      return (
        <>
          <p role="status">
            {trans.__('Your Azure sign-in has expired. Running kernels are not affected.')}
          </p>
          {waysIn(trans.__('Sign in'))}
          {model.status?.error && (
            <details>
              <summary>{trans.__('Why')}</summary>
              <p>
                <Linked text={model.status.error.message} />
              </p>
              <p>
                <Linked text={model.status.error.advice} />
              </p>
            </details>
          )}
        </>
      );
    case 'failed':
    case 'refused':
      return (
        <Problem
          problem={view === 'refused' ? model.error : (model.status?.error ?? null)}
          onDismiss={view === 'refused' ? () => model.dismiss() : undefined}
          trans={trans}
        >
          <button data-first className="jp-mod-styled" onClick={begin}>
            {trans.__('Try again')}
          </button>
          <button className="jp-mod-styled" onClick={() => model.choose()}>
            {trans.__('Other ways…')}
          </button>
        </Problem>
      );
    case 'elsewhere':
      return (
        <>
          <p role="status">{trans.__('Somebody is signing in just now.')}</p>
          {waysIn(trans.__('Sign in here'))}
        </>
      );
    case 'choosing':
      return <SignInForm model={model} trans={trans} />;
    case 'asking':
      return (
        <>
          <p role="status" aria-busy="true">
            {trans.__('Asking Microsoft…')}
          </p>
          <button data-first className="jp-mod-styled" onClick={() => void model.cancel()}>
            {trans.__('Cancel')}
          </button>
        </>
      );
    case 'prompting':
      return model.attempt && <Prompt attempt={model.attempt} model={model} trans={trans} />;
    case 'signed_in':
      return model.status && <SignedIn {...props} status={model.status} />;
    case 'hidden':
      return null;
  }
}

interface IPromptProps {
  attempt: ISignIn;
  model: ISignInModel;
  trans: TranslationBundle;
}

/** What the person has to do, with the code. */
function Prompt(props: IPromptProps): React.ReactElement {
  const { attempt, model, trans } = props;
  const [isCopied, setCopied] = React.useState(false);
  const code = attempt.code ?? '';
  const url = attempt.url ?? '';
  // An emulated Entra is none of Microsoft's pages, but the server that gave its address is ours.
  const address = url.startsWith('https://') ? (
    <ExternalLink href={url} text={url.replace(/^https:\/\/(www\.)?/, '')} />
  ) : (
    url
  );
  return (
    <>
      <p role="status">
        {trans
          .__('Open %1 and enter %2.', '%1', '%2')
          .split(/(%\d)/)
          .map((part, index) => (
            <React.Fragment key={index}>
              {part === '%1' ? (
                address
              ) : part === '%2' ? (
                <strong className="jp-Dsvm-code">{code}</strong>
              ) : (
                part
              )}
            </React.Fragment>
          ))}
      </p>
      <TimeLeft until={attempt.expires} trans={trans} />
      <div className="jp-Dsvm-buttons">
        <button
          data-first
          className="jp-mod-styled jp-mod-accept"
          onClick={() => {
            Clipboard.copyToSystem(code);
            setCopied(true);
          }}
        >
          {trans.__('Copy code')}
        </button>
        <button className="jp-mod-styled" onClick={() => void model.cancel()}>
          {trans.__('Cancel')}
        </button>
        <span role="status">{isCopied ? trans.__('Copied.') : ''}</span>
      </div>
    </>
  );
}

/** In whole minutes, and in no live region: nobody wants to have a countdown read out. */
function TimeLeft(props: {
  until: string | null;
  trans: TranslationBundle;
}): React.ReactElement | null {
  const { until, trans } = props;
  const [now, setNow] = React.useState(Date.now);
  React.useEffect(() => {
    const timer = window.setInterval(() => setNow(Date.now()), 5000);
    return () => window.clearInterval(timer);
  }, []);
  const minutes = until ? Math.ceil((Date.parse(until) - now) / 60_000) : NaN;
  // The clocks of page and server may differ; that a code has expired is for the server to say.
  if (!(minutes > 0 && minutes <= 60)) {
    return null;
  }
  return (
    <p className="jp-Dsvm-quiet">
      {trans._n(
        'The code can be entered for one more minute.',
        'The code can be entered for %1 more minutes.',
        minutes
      )}
    </p>
  );
}

/** One line, and a menu where there is something to choose. */
function SignedIn(props: ISignInProps & { status: ISignIn }): React.ReactElement {
  const { status, trans } = props;
  const { before, account, after } = signedInParts(status, trans);
  // A token in a file is the administrator's choice, and nobody's to change here.
  const hasMenu = status.method !== 'token_file';
  return (
    <div className="jp-Dsvm-signedIn">
      <p role="status">
        {before}
        <strong>{account}</strong>
        {after}
      </p>
      {hasMenu && (
        <button
          data-first
          className="jp-Dsvm-menuButton"
          aria-haspopup="menu"
          aria-label={trans.__('Azure account')}
          title={trans.__('Azure account')}
          onClick={event => props.onMenu(event.currentTarget)}
        >
          <span aria-hidden="true">
            <ellipsesIcon.react tag={null} />
          </span>
        </button>
      )}
    </div>
  );
}
