import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { IKernel, ISavedVariables } from '../api';
import { moreText } from '../filewords';
import { h } from '../jsx';
import { canLoad } from '../variablecommands';
import { savedText } from '../variablewords';
import { withPoint } from '../words';

export interface ISavedVariablesProps {
  kernel: IKernel;
  saved: ISavedVariables;
  /** What the machine is called that has them. */
  name: string;
  onLoad: () => void;
  onForget: () => void;
  trans: TranslationBundle;
}

/** What was saved of the notebook's variables before its machine was stopped. */
export function SavedVariables(props: ISavedVariablesProps): React.ReactElement {
  const { kernel, saved, name, trans } = props;
  return (
    <div className="jp-Dsvm-saved" role="group" aria-label={trans.__('Saved variables')}>
      <p>{savedText(saved, name, trans)}</p>
      {!canLoad(kernel) && (
        <p className="jp-Dsvm-quiet">
          {trans.__('They can be loaded once the notebook runs on %1 again.', name)}
        </p>
      )}
      <details>
        <summary>{trans.__('Which')}</summary>
        <p>{withPoint(saved.names.join(', '))}</p>
        {saved.count > saved.names.length && (
          <p>{moreText(saved.count - saved.names.length, trans)}</p>
        )}
        {saved.left.length > 0 && (
          <p>{trans.__('These could not be saved: %1.', saved.left.join(', '))}</p>
        )}
      </details>
      <div className="jp-Dsvm-buttons">
        {canLoad(kernel) && (
          <button data-first className="jp-mod-styled" onClick={props.onLoad}>
            {trans.__('Load')}
          </button>
        )}
        <button className="jp-mod-styled" onClick={props.onForget}>
          {trans.__('Forget…')}
        </button>
      </div>
    </div>
  );
}
