import { TranslationBundle } from '@jupyterlab/translation';
import { ellipsesIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { CancelChoice } from '../actions';
import { ICompute, IKernel, IOperation } from '../api';
import { idleOf, safetyWarning } from '../idlewords';
import { h } from '../jsx';
import { DefaultAction } from '../settings';
import { computeState, IComputeState, PrimaryAction } from '../states';
import { primaryLabel } from '../statewords';
import { priceSource, priceText, sizeText } from '../words';
import { useKeptFocus } from './keptFocus';
import { OperationProgress } from './OperationProgress';
import { Explanation, Problem } from './Problem';
import { StateText } from './StateText';
import { ToneIcon } from './ToneIcon';

/** Where a card is in a list of which only a part is in the document. */
export interface IPlacement {
  /** From 0. */
  index: number;
  count: number;
  /** Told of the element, so that its height is known. */
  measure: (element: HTMLElement | null) => void;
  style: React.CSSProperties;
}

export interface ICardProps {
  compute: ICompute;
  /** What tells it from another machine of the same name. */
  qualifier?: string;
  operation?: IOperation;
  /** How long such an operation took before, in seconds, where that is known. */
  usual?: number;
  /** The newest operation there, if it failed and was not dismissed. */
  failed?: IOperation;
  /** A kernel that runs there. */
  kernel?: IKernel;
  /** The current notebook's kernel. */
  current?: IKernel;
  /** What the button of a machine that is off does first. */
  defaultAction?: DefaultAction;
  /** For how long “Keep on” keeps it on. */
  keepHours?: number;
  placement?: IPlacement;
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
  const { compute, operation, failed, kernel, placement, trans } = props;
  const state = computeState(props, trans);
  const size = sizeText(compute.size, trans);
  const primary = state.primary && <Primary {...props} state={state} action={state.primary} />;
  const safety = safetyWarning(compute);
  const region = useKeptFocus<HTMLLIElement>();
  React.useLayoutEffect(() => placement?.measure(region.current), [placement?.measure]);
  return (
    <li
      ref={region}
      className="jp-Dsvm-card"
      tabIndex={-1}
      data-compute={compute.id}
      data-tone={state.tone}
      data-state={state.name}
      data-index={placement?.index}
      style={placement?.style}
      aria-label={compute.name}
      aria-posinset={placement && placement.index + 1}
      aria-setsize={placement?.count}
    >
      <Header {...props} primary={state.primary} tone={state.tone} />
      {(size || compute.price) && (
        <p className="jp-Dsvm-size">
          {size && <span>{size}</span>}
          {compute.price && (
            <span title={priceSource(compute.price, trans)}>{priceText(compute.price, trans)}</span>
          )}
        </p>
      )}
      <StateText state={state} title={titleOf(compute, kernel)} />
      {state.name === 'idleSoon' && <Lost files={compute.idle?.lost ?? []} trans={trans} />}
      {safety && (
        <p className="jp-Dsvm-caution">
          <ToneIcon tone="warn" />
          <span>{safety}</span>
        </p>
      )}
      {compute.attached.length > 2 && <Attached paths={compute.attached} trans={trans} />}
      {operation && (
        <OperationProgress
          operation={operation}
          onCancel={choice => props.onCancel(operation, choice)}
          trans={trans}
        />
      )}
      {failed && !state.explains && (
        <Problem problem={failed.error} onDismiss={() => props.onDismiss(failed)} trans={trans} />
      )}
      {compute.problem && <Problem problem={compute.problem} trans={trans} />}
      {failed && state.explains ? (
        <Explanation problem={failed.error} onDismiss={() => props.onDismiss(failed)} trans={trans}>
          {primary}
        </Explanation>
      ) : (
        primary
      )}
    </li>
  );
}

function Header(props: ICardProps & Pick<IComputeState, 'primary' | 'tone'>): React.ReactElement {
  const { compute, trans } = props;
  const menu = props.menuOf(props.primary);
  const about = [compute.size?.name, compute.location, compute.resource_group];
  return (
    <div className="jp-Dsvm-cardHeader">
      <ToneIcon tone={props.tone} />
      <div className="jp-Dsvm-name">
        <h4 title={[compute.name, about.filter(Boolean).join(' · ')].filter(Boolean).join('\n')}>
          {compute.name}
        </h4>
        {props.qualifier && (
          <p className="jp-Dsvm-qualifier" title={props.qualifier}>
            {props.qualifier}
          </p>
        )}
      </div>
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
  );
}

/** What is behind the words of its state. */
function titleOf(compute: ICompute, kernel: IKernel | undefined): string | undefined {
  const safety = idleOf(compute)?.safety?.text;
  const about = kernel?.link.reason ? [kernel.link.reason] : compute.attached;
  return [...about, ...(safety ? [safety] : [])].join('\n') || undefined;
}

/** Files that are lost once it is stopped. */
function Lost(props: {
  files: readonly string[];
  trans: TranslationBundle;
}): React.ReactElement | null {
  const { files, trans } = props;
  return files.length > 0 ? (
    <details className="jp-Dsvm-attached">
      <summary>{trans.__('Files on its temporary disk are lost then')}</summary>
      <ul>
        {files.map((file, index) => (
          <li key={index}>{file}</li>
        ))}
      </ul>
    </details>
  ) : null;
}

/** All notebooks that run there, where the sentence names one of them only. */
function Attached(props: {
  paths: readonly string[];
  trans: TranslationBundle;
}): React.ReactElement {
  const { paths, trans } = props;
  return (
    <details className="jp-Dsvm-attached">
      <summary>{trans.__('All %1 notebooks', paths.length)}</summary>
      <ul>
        {paths.map((path, index) => (
          <li key={index}>{path}</li>
        ))}
      </ul>
    </details>
  );
}

function Primary(
  props: ICardProps & { state: IComputeState; action: PrimaryAction }
): React.ReactElement {
  const { compute, state, action, trans } = props;
  const label = primaryLabel(action, compute, trans, props.keepHours);
  if (state.link) {
    return (
      <a
        data-first
        className="jp-Dsvm-linkButton jp-Dsvm-primary"
        href={state.link}
        target="_blank"
        rel="noopener noreferrer"
      >
        {label}
      </a>
    );
  }
  return (
    <button
      data-first
      className={`jp-mod-styled ${action === 'attach' || action === 'keep' ? 'jp-mod-accept' : ''} jp-Dsvm-primary`}
      onClick={() => props.onAction(action)}
    >
      {label}
    </button>
  );
}
