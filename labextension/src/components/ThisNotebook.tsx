import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { CancelChoice } from '../actions';
import { FREE, ICompute, IKernel, IOperation } from '../api';
import { INotebook } from '../current';
import { h } from '../jsx';
import { primaryLabel } from '../statewords';
import { nameOf, operationText, shortState, sizeText } from '../words';
import { useKeptFocus } from './keptFocus';
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
  /** Where it last ran, if that is elsewhere and the machine is still listed. */
  last?: ICompute;
  /** Whether it can be attached there now. */
  canResume?: boolean;
  /** How much of where it runs is in use. */
  gauge?: React.ReactNode;
  /** Its files that travel. */
  files?: React.ReactNode;
  /** Its variables that were saved. */
  saved?: React.ReactNode;
  /** How many of its cells wait for a move. */
  waiting?: number;
  /** Open the menu of what it can be moved to; absent where there is nothing. */
  onMoveTo?: (anchor: HTMLElement) => void;
  onResume?: () => void;
  onDetach: () => void;
  onCancel: (operation: IOperation, choice: CancelChoice) => void;
  onDismiss: (operation: IOperation) => void;
  trans: TranslationBundle;
}

/** The answer to “where does this notebook run?”. */
export function ThisNotebook(props: IThisNotebookProps): React.ReactElement {
  const { compute, kernel, operation, failed, last, trans } = props;
  const isMoving = !!kernel?.moving_to;
  const region = useKeptFocus<HTMLDivElement>();
  return (
    <div ref={region} className="jp-Dsvm-notebook" tabIndex={-1}>
      <p role="status" aria-live="polite">
        {sentence(props)}
      </p>
      {kernel && isMoving && <Waiting {...props} kernel={kernel} />}
      {kernel && props.gauge}
      {kernel && props.files}
      {kernel && props.saved}
      {kernel?.problem && <Problem problem={kernel.problem} trans={trans} />}
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
      {last && !isMoving && <LastRan {...props} last={last} />}
      {kernel && !isMoving && (
        <div className="jp-Dsvm-buttons">
          {!compute && kernel.compute !== FREE && (
            <button data-first className="jp-mod-styled" onClick={props.onDetach}>
              {trans.__('Return to free tier')}
            </button>
          )}
          {props.onMoveTo && (
            <button
              data-first
              className="jp-mod-styled"
              aria-haspopup="menu"
              onClick={event => props.onMoveTo?.(event.currentTarget)}
            >
              {trans.__('Move to…')}
            </button>
          )}
        </div>
      )}
    </div>
  );
}

/** Cells that were sent while it moves, and what becomes of them. It is there before they are, so that they are read out. */
function Waiting(props: IThisNotebookProps & { kernel: IKernel }): React.ReactElement {
  const { kernel, compute, target, waiting = 0, trans } = props;
  return (
    <p role="status" aria-live="polite" className="jp-Dsvm-quiet">
      {waiting > 0 &&
        trans._n(
          '%1 cell waits its turn. Once the notebook is on %2 it runs there; if the move is cancelled, on %3.',
          '%1 cells wait their turn, in order. Once the notebook is on %2 they run there; if the move is cancelled, on %3.',
          waiting,
          nameOf(target, kernel.moving_to, trans),
          nameOf(compute, kernel.compute, trans)
        )}
    </p>
  );
}

/** “Last ran on gpu-vm (off).”, and the way there: opening a notebook never starts a machine that is billed. */
function LastRan(props: IThisNotebookProps & { last: ICompute }): React.ReactElement {
  const { last, trans } = props;
  const state = shortState(last, undefined, trans);
  return (
    <div className="jp-Dsvm-lastRan">
      <p>
        {state
          ? emphasised(trans.__('Last ran on %2 (%1).', ...MARKS), [state, last.name])
          : emphasised(trans.__('Last ran on %2.', ...MARKS), ['', last.name])}
      </p>
      {props.canResume && (
        <button className="jp-mod-styled" onClick={props.onResume}>
          {primaryLabel('attach', last, trans)}
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
