import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { h } from '../jsx';
import { ISignInModel } from '../tokens';
import { Problem } from './Problem';

export interface ISignInFormProps {
  model: ISignInModel;
  trans: TranslationBundle;
}

/** How to sign in, for those who have a reason to choose. */
export function SignInForm(props: ISignInFormProps): React.ReactElement {
  const { model, trans } = props;
  const [tenant, setTenant] = React.useState('');
  const [keep, setKeep] = React.useState(false);
  const first = React.useRef<HTMLInputElement>(null);
  const token = React.useRef<HTMLInputElement>(null);

  // It is here because the person asked for it, be it from the palette.
  React.useEffect(() => first.current?.focus(), []);

  const paste = () => {
    const field = token.current;
    const value = field?.value.trim() ?? '';
    if (!field || !value) {
      field?.focus();
      return;
    }
    // It is in this field and in the request, and stays in neither.
    field.value = '';
    void model.paste(value);
  };

  return (
    <>
      {model.error && <Problem problem={model.error} trans={trans} />}
      <form
        aria-label={trans.__('Sign in with a code')}
        onSubmit={event => {
          event.preventDefault();
          void model.begin({ tenant: tenant.trim(), keep });
        }}
      >
        <label className="jp-Dsvm-field">
          {trans.__('Tenant')}
          <input
            ref={first}
            className="jp-mod-styled"
            value={tenant}
            autoComplete="off"
            spellCheck={false}
            aria-describedby="jp-dsvm-tenant-hint"
            onChange={event => setTenant(event.target.value)}
          />
        </label>
        <p id="jp-dsvm-tenant-hint" className="jp-Dsvm-quiet">
          {trans.__('An id or a domain, such as contoso.com. Empty: your account’s own.')}
        </p>
        <label className="jp-Dsvm-check">
          <input type="checkbox" checked={keep} onChange={event => setKeep(event.target.checked)} />
          {trans.__('Keep me signed in (encrypted)')}
        </label>
        <div className="jp-Dsvm-buttons">
          <button type="submit" className="jp-mod-styled jp-mod-accept">
            {trans.__('Get a code')}
          </button>
          <button type="button" className="jp-mod-styled" onClick={() => model.dismiss()}>
            {trans.__('Cancel')}
          </button>
        </div>
      </form>
      <form
        aria-label={trans.__('Sign in with a token')}
        onSubmit={event => {
          event.preventDefault();
          paste();
        }}
      >
        <label className="jp-Dsvm-field">
          {trans.__('Where codes are blocked: a token')}
          <input
            ref={token}
            className="jp-mod-styled"
            type="password"
            autoComplete="off"
            spellCheck={false}
            aria-describedby="jp-dsvm-token-hint"
          />
        </label>
        <p id="jp-dsvm-token-hint" className="jp-Dsvm-quiet">
          {trans.__(
            'From a computer where you may sign in: “az account get-access-token --query accessToken --output tsv”. It is good for about an hour.'
          )}
        </p>
        <div className="jp-Dsvm-buttons">
          <button type="submit" className="jp-mod-styled">
            {trans.__('Use this token')}
          </button>
        </div>
      </form>
    </>
  );
}
