import { TranslationBundle } from '@jupyterlab/translation';
import { ellipsesIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { CancelChoice } from '../actions';
import { ICompute, IKernel, IOperation } from '../api';
import { computeState, PrimaryAction, primaryLabel, priceText, sizeText } from '../words';
import { OperationProgress } from './OperationProgress';
import { Problem } from './Problem';
import { ToneIcon } from './ToneIcon';

export interface ICardProps {
  compute: ICompute;
  /** What tells it from another machine of the same name. */
  qualifier?: string;
  operation?: IOperation;
  /** The newest operation there, if it failed and was not dismissed. */
  failed?: IOperation;
  /** A kernel that runs there. */
  kernel?: IKernel;
  /** The current notebook's kernel. */
  current?: IKernel;
  /** What is possible besides the card's own button; without anything there is no menu button. */
  menuOf: (primary: PrimaryAction | null) => string[];
  onAction: (action: PrimaryAction) => void;
  onMenu: (items: readonly string[], anchor: HTMLElement) => void;
  onCancel: (operation: IOperation, choice: CancelChoice) => void;
  onDismiss: (operation: IOperation) => void;
  trans: TranslationBundle;
}

/** A machine: what it is, how it is, and the one thing to do next. */
export function Card(props: ICardProps): React.ReactElement {
  const { compute, operation, failed, trans } = props;
  const state = computeState(props, trans);
  const menu = props.menuOf(state.primary);
  const size = sizeText(compute.size, trans);
  const where = [compute.size?.name, compute.location, compute.resource_group]
    .filter(Boolean)
    .join(' · ');
  return (
    <li
      className="jp-Dsvm-card"
      data-compute={compute.id}
      data-tone={state.tone}
      aria-label={compute.name}
    >
      <div className="jp-Dsvm-cardHeader">
        <ToneIcon tone={state.tone} />
        <h4 title={where}>
          {compute.name}
          {props.qualifier && <span className="jp-Dsvm-qualifier"> {props.qualifier}</span>}
        </h4>
        {menu.length > 0 && (
          <button
            className="jp-Dsvm-menuButton"
            aria-haspopup="menu"
            aria-label={trans.__('More actions for %1', compute.name)}
            title={trans.__('More actions')}
            onClick={event => props.onMenu(menu, event.currentTarget)}
          >
            <span aria-hidden="true">
              <ellipsesIcon.react tag={null} />
            </span>
          </button>
        )}
      </div>
      {(size || compute.price) && (
        <p className="jp-Dsvm-size">
          {size && <span>{size}</span>}
          {compute.price && (
            <span
              title={trans.__('List price of %1; your own price may differ.', compute.price.as_of)}
            >
              {priceText(compute.price, trans)}
            </span>
          )}
        </p>
      )}
      <p className="jp-Dsvm-state" role="status" aria-live="polite">
        {state.text}
      </p>
      {operation && (
        <OperationProgress
          operation={operation}
          onCancel={choice => props.onCancel(operation, choice)}
          trans={trans}
        />
      )}
      {failed && (
        <Problem problem={failed.error} onDismiss={() => props.onDismiss(failed)} trans={trans} />
      )}
      {compute.problem && <Problem problem={compute.problem} trans={trans} />}
      {state.primary && (
        <button
          className={`jp-mod-styled ${state.primary === 'attach' ? 'jp-mod-accept' : ''} jp-Dsvm-primary`}
          onClick={() => state.primary && props.onAction(state.primary)}
        >
          {primaryLabel(state.primary, compute, trans)}
        </button>
      )}
    </li>
  );
}
