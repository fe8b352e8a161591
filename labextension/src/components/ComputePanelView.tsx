import { TranslationBundle } from '@jupyterlab/translation';
import { addIcon, LabIcon, refreshIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { CancelChoice, machinesOf } from '../actions';
import { FREE, ICompute, IOperation } from '../api';
import { INotebook } from '../current';
import { isSignInProblem } from '../signin';
import { IComputeModel } from '../tokens';
import { clockText, PrimaryAction } from '../words';
import { Card } from './Card';
import { NewCard } from './NewCard';
import { Problem } from './Problem';
import { SignIn } from './SignIn';
import { ThisNotebook } from './ThisNotebook';

export interface IComputePanelViewProps {
  model: IComputeModel;
  notebook: INotebook | null;
  /** How much of where the notebook runs is in use. */
  gauge?: React.ReactNode;
  onAction: (compute: ICompute, action: PrimaryAction) => void;
  /** The commands behind a machine's menu button, beside the one on its own button. */
  menuOf: (compute: ICompute, primary: PrimaryAction | null) => string[];
  onMenu: (compute: ICompute, items: readonly string[], anchor: HTMLElement) => void;
  onDetach: () => void;
  onCancel: (operation: IOperation, choice: CancelChoice) => void;
  onAccountMenu: (anchor: HTMLElement) => void;
  onCreate: () => void;
  onRefresh: () => void;
  trans: TranslationBundle;
}

/** The whole panel, for whatever the model holds now. */
export function ComputePanelView(props: IComputePanelViewProps): React.ReactElement {
  const { model, trans } = props;
  const loading = model.status === 'loading';
  return (
    <div className="jp-Dsvm-view" aria-busy={loading}>
      <div className="jp-Dsvm-header">
        <h2>{trans.__('Compute')}</h2>
        {model.status !== 'loading' && (
          <div className="jp-Dsvm-headerButtons">
            {model.canCreate && (
              <IconButton
                icon={addIcon}
                label={trans.__('Create a machine')}
                onClick={props.onCreate}
              />
            )}
            <IconButton
              icon={refreshIcon}
              label={trans.__('Ask again which machines there are')}
              onClick={props.onRefresh}
            />
          </div>
        )}
      </div>
      {loading && <Skeleton trans={trans} />}
      {(model.status === 'missing' || model.status === 'failed') && (
        <Problem problem={model.error} onRetry={props.onRefresh} trans={trans} />
      )}
      {model.status === 'ready' && <Lists {...props} />}
    </div>
  );
}

function IconButton(props: {
  icon: LabIcon;
  label: string;
  onClick: () => void;
}): React.ReactElement {
  return (
    <button
      className="jp-Dsvm-menuButton"
      aria-label={props.label}
      title={props.label}
      onClick={props.onClick}
    >
      <span aria-hidden="true">
        <props.icon.react tag={null} />
      </span>
    </button>
  );
}

function Lists(props: IComputePanelViewProps): React.ReactElement {
  const { model, notebook, trans } = props;
  const machines = machinesOf(model);
  const current = model.kernel(notebook?.kernelId ?? null);
  const isSignInNeeded = model.problems.some(isSignInProblem);
  // Before anybody is signed in, the sign-in says it better, and says it once.
  const isSignedIn = model.signIn.status?.state === 'signed_in';
  const problems = model.problems.filter(problem => isSignedIn || !isSignInProblem(problem));
  return (
    <>
      {model.error && <Problem problem={model.error} onRetry={props.onRefresh} trans={trans} />}
      <section aria-labelledby="jp-dsvm-this-notebook">
        <h3 id="jp-dsvm-this-notebook">{trans.__('This notebook')}</h3>
        <ThisNotebook
          notebook={notebook}
          kernel={current}
          compute={model.compute(current?.compute ?? null)}
          target={model.compute(current?.moving_to ?? null)}
          operation={model.runningOn(FREE)}
          failed={model.failedOn(FREE)}
          gauge={props.gauge}
          onDetach={props.onDetach}
          onCancel={props.onCancel}
          onDismiss={operation => model.dismiss(operation.id)}
          trans={trans}
        />
      </section>
      <section aria-labelledby="jp-dsvm-machines">
        <h3 id="jp-dsvm-machines">{trans.__('Your machines')}</h3>
        <SignIn
          model={model.signIn}
          isNeeded={isSignInNeeded}
          onMenu={props.onAccountMenu}
          trans={trans}
        />
        {problems.map((problem, index) => (
          <Problem
            key={index}
            problem={problem}
            onSignIn={isSignInProblem(problem) ? () => model.signIn.choose() : undefined}
            trans={trans}
          />
        ))}
        {machines.length === 0 && model.problems.length === 0 && model.creations.length === 0 && (
          <div className="jp-Dsvm-empty">
            <p>
              {model.canCreate
                ? trans.__('No machines yet. Ask your administrator, or create one.')
                : trans.__(
                    'No machines yet. Ask your administrator for an Azure Data Science VM, then refresh.'
                  )}
            </p>
            {model.canCreate && (
              <button className="jp-mod-styled jp-mod-accept" onClick={props.onCreate}>
                {trans.__('Create…')}
              </button>
            )}
          </div>
        )}
        <ul className="jp-Dsvm-cards">
          {model.creations.map(operation => (
            <NewCard
              key={operation.id}
              operation={operation}
              onCancel={choice => props.onCancel(operation, choice)}
              onDismiss={() => model.dismiss(operation.id)}
              trans={trans}
            />
          ))}
          {machines.map(compute => (
            <Card
              key={compute.id}
              compute={compute}
              qualifier={qualifier(compute, machines)}
              operation={model.runningOn(compute.id)}
              failed={model.failedOn(compute.id)}
              kernel={
                current?.compute === compute.id
                  ? current
                  : model.kernels.find(k => k.compute === compute.id)
              }
              current={current}
              menuOf={primary => props.menuOf(compute, primary)}
              onAction={action => props.onAction(compute, action)}
              onMenu={(items, anchor) => props.onMenu(compute, items, anchor)}
              onCancel={props.onCancel}
              onDismiss={operation => model.dismiss(operation.id)}
              trans={trans}
            />
          ))}
        </ul>
      </section>
      {model.asOf && (
        <p className="jp-Dsvm-footer">
          {trans.__('Azure was last asked at %1.', clockText(model.asOf))}
        </p>
      )}
    </>
  );
}

/** The resource group, where two machines have the same name. */
function qualifier(compute: ICompute, all: ICompute[]): string | undefined {
  const twins = all.filter(other => other.name === compute.name);
  if (twins.length < 2) {
    return undefined;
  }
  const sameGroup =
    twins.filter(other => other.resource_group === compute.resource_group).length > 1;
  return (
    [sameGroup ? compute.subscription : null, compute.resource_group].filter(Boolean).join('/') ||
    undefined
  );
}

function Skeleton(props: { trans: TranslationBundle }): React.ReactElement {
  return (
    <>
      <p className="jp-Dsvm-hidden" role="status">
        {props.trans.__('Loading the list of machines.')}
      </p>
      <ul className="jp-Dsvm-cards" aria-hidden="true">
        {[0, 1, 2].map(key => (
          <li key={key} className="jp-Dsvm-card jp-Dsvm-skeleton">
            <span />
            <span />
            <span />
          </li>
        ))}
      </ul>
    </>
  );
}
