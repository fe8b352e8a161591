import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { CancelChoice } from '../actions';
import { FREE, ICompute, IKernel, IOperation } from '../api';
import { INotebook } from '../current';
import { nameOf, operationText, sizeText } from '../words';
import { OperationProgress } from './OperationProgress';
import { Problem } from './Problem';

export interface IThisNotebookProps {
  notebook: INotebook | null;
  /** Its row in the list of kernels; absent when the server has none. */
  kernel?: IKernel;
  /** Where it runs; absent when that machine is no longer listed. */
  compute?: ICompute;
  /** Where it is moving to. */
  target?: ICompute;
  /** What goes on at the free tier: a notebook that is coming back. */
  operation?: IOperation;
  failed?: IOperation;
  /** How much of where it runs is in use. */
  gauge?: React.ReactNode;
  onDetach: () => void;
  onCancel: (operation: IOperation, choice: CancelChoice) => void;
  onDismiss: (operation: IOperation) => void;
  trans: TranslationBundle;
}

/** The answer to “where does this notebook run?”. */
export function ThisNotebook(props: IThisNotebookProps): React.ReactElement {
  const { compute, kernel, operation, failed, trans } = props;
  return (
    <div className="jp-Dsvm-notebook">
      <p role="status" aria-live="polite">
        {sentence(props)}
      </p>
      {kernel && props.gauge}
      {operation && (
        <>
          <p className="jp-Dsvm-state">{operationText(operation, trans)}</p>
          <OperationProgress
            operation={operation}
            onCancel={choice => props.onCancel(operation, choice)}
            trans={trans}
          />
        </>
      )}
      {failed && (
        <Problem problem={failed.error} onDismiss={() => props.onDismiss(failed)} trans={trans} />
      )}
      {kernel && !compute && kernel.compute !== FREE && !kernel.moving_to && (
        <button className="jp-mod-styled jp-Dsvm-primary" onClick={props.onDetach}>
          {trans.__('Return to free tier')}
        </button>
      )}
    </div>
  );
}

function sentence(props: IThisNotebookProps): React.ReactNode {
  const { notebook, kernel, compute, target, trans } = props;
  if (!notebook) {
    return trans.__('Open a notebook to see where it runs.');
  }
  if (!notebook.kernelId) {
    return trans.__(
      '%1 has no kernel yet. Choose one; then the notebook can be moved.',
      notebook.name
    );
  }
  if (!kernel) {
    return trans.__(
      '%1 has a kernel that cannot be moved: it was started without jupyter-dsvm. Shut it down and choose a kernel again.',
      notebook.name
    );
  }
  const name = nameOf(compute, kernel.compute, trans);
  const size = compute?.kind === 'free' ? sizeText(compute.size, trans) : '';
  const where = size ? `${name} (${size})` : name;
  if (kernel.moving_to) {
    const to = nameOf(target, kernel.moving_to, trans);
    return emphasised(trans.__('%1 runs on %2 and is moving to %3.', ...MARKS), [
      notebook.name,
      name,
      to
    ]);
  }
  if (kernel.link.state === 'gone') {
    return emphasised(
      trans.__(
        '%1 ran on %2, where its kernel has ended. Return it to the free tier to go on.',
        ...MARKS
      ),
      [notebook.name, name]
    );
  }
  return emphasised(trans.__('%1 runs on %2.', ...MARKS), [notebook.name, where]);
}

/** Arguments that leave the marks in a translated sentence where they are. */
const MARKS = ['%1', '%2', '%3'];

/** A translated sentence whose arguments are shown in bold, the first one aside: that is the notebook's name. */
function emphasised(sentence: string, values: string[]): React.ReactNode {
  return sentence.split(/(%\d)/).map((part, index) => {
    const match = /^%(\d)$/.exec(part);
    const value = match ? values[Number(match[1]) - 1] : part;
    return match && match[1] !== '1' ? <strong key={index}>{value}</strong> : value;
  });
}
