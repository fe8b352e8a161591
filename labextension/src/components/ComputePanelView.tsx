import { TranslationBundle } from '@jupyterlab/translation';
import { addIcon, LabIcon, refreshIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { canAttach, CancelChoice, machinesOf } from '../actions';
import { FREE, ICompute, IKernel, IOperation } from '../api';
import { INotebook } from '../current';
import { DEFAULT_FILTERS, IFilters, matching } from '../filters';
import { h } from '../jsx';
import { DefaultAction } from '../settings';
import { isSignInProblem } from '../signin';
import { PrimaryAction } from '../states';
import { usualSeconds } from '../usual';
import { IComputeModel } from '../tokens';
import { clockText, nameOf, qualifierOf } from '../words';
import { Card } from './Card';
import { FilterBar } from './FilterBar';
import { MachineList } from './MachineList';
import { NewCard } from './NewCard';
import { Problem } from './Problem';
import { SavedVariables } from './SavedVariables';
import { SignIn } from './SignIn';
import { Budgets, Spending } from './Spending';
import { ThisNotebook } from './ThisNotebook';
import { IWorkspaceActions, Workspace } from './Workspace';

export interface IComputePanelViewProps {
  model: IComputeModel;
  notebook: INotebook | null;
  /** How much of where it runs is in use. */
  gauge?: React.ReactNode;
  /** What the button of a machine that is off does first. */
  defaultAction?: DefaultAction;
  /** For how long “Keep on” keeps a machine on. */
  keepHours?: number;
  filters?: IFilters;
  /** Without it there is nothing to filter with. */
  onFilters?: (change: Partial<IFilters>) => void;
  onAction: (compute: ICompute, action: PrimaryAction) => void;
  /** The commands behind a machine's menu button, beside the one on its own button. */
  menuOf: (compute: ICompute, primary: PrimaryAction | null) => string[];
  onMenu: (compute: ICompute, items: readonly string[], anchor: HTMLElement) => void;
  /** Open the menu of what the notebook can be moved to. */
  onMoveTo?: (anchor: HTMLElement) => void;
  onDetach: () => void;
  onCancel: (operation: IOperation, choice: CancelChoice) => void;
  onAccountMenu: (anchor: HTMLElement) => void;
  /** What can be done to the notebook's files. */
  files: IWorkspaceActions;
  onLoadVariables: () => void;
  onForgetVariables: () => void;
  onCreate: () => void;
  onRefresh: () => void;
  /** Absent where the page has no settings editor. */
  onSettings?: () => void;
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
  const { model, trans } = props;
  return (
    <>
      {model.error && <Problem problem={model.error} onRetry={props.onRefresh} trans={trans} />}
      <section aria-labelledby="jp-dsvm-this-notebook">
        <h3 id="jp-dsvm-this-notebook">{trans.__('This notebook')}</h3>
        <Notebook {...props} />
      </section>
      <section aria-labelledby="jp-dsvm-machines">
        <Machines {...props} />
      </section>
      <Footer {...props} />
    </>
  );
}

function Notebook(props: IComputePanelViewProps): React.ReactElement {
  const { model, notebook, trans } = props;
  const kernel = model.kernel(notebook?.kernelId ?? null);
  const isElsewhere = kernel?.last_compute !== kernel?.compute;
  const last = isElsewhere ? model.compute(kernel?.last_compute ?? null) : undefined;
  const workspace = model.workspace(kernel?.id ?? null);
  const canGo = kernel && (kernel.compute !== FREE || machinesOf(model).length > 0);
  return (
    <ThisNotebook
      notebook={notebook}
      kernel={kernel}
      compute={model.compute(kernel?.compute ?? null)}
      target={model.compute(kernel?.moving_to ?? null)}
      operation={model.runningOn(FREE)}
      failed={model.failedOn(FREE)}
      last={last}
      canResume={!!last && canAttach(last, model.runningOn(last.id), kernel)}
      gauge={props.gauge}
      files={
        workspace && (
          <Workspace
            workspace={workspace}
            name={nameOf(model.compute(workspace.compute), workspace.compute, trans)}
            operation={model.operations.find(
              ({ kind, state, kernel: id }) =>
                kind === 'sync' && state === 'running' && !!id && workspace.kernels.includes(id)
            )}
            actions={props.files}
            trans={trans}
          />
        )
      }
      saved={
        kernel?.saved && (
          <SavedVariables
            kernel={kernel}
            saved={kernel.saved}
            name={nameOf(model.compute(kernel.saved.compute), kernel.saved.compute, trans)}
            onLoad={props.onLoadVariables}
            onForget={props.onForgetVariables}
            trans={trans}
          />
        )
      }
      waiting={kernel && model.waiting(kernel.id)}
      onMoveTo={canGo ? props.onMoveTo : undefined}
      onResume={() => last && props.onAction(last, 'attach')}
      onDetach={props.onDetach}
      onCancel={props.onCancel}
      onDismiss={operation => model.dismiss(operation.id)}
      trans={trans}
    />
  );
}

function Machines(props: IComputePanelViewProps): React.ReactElement {
  const { model, trans } = props;
  const machines = machinesOf(model);
  const filters = props.filters ?? DEFAULT_FILTERS;
  const shown = matching(machines, filters);
  const isSignInNeeded = model.problems.some(isSignInProblem);
  // Before anybody is signed in, the sign-in says it better, and says it once.
  const isSignedIn = model.signIn.status?.state === 'signed_in';
  const problems = model.problems.filter(problem => isSignedIn || !isSignInProblem(problem));
  const heading = <h3 id="jp-dsvm-machines">{trans.__('Your machines')}</h3>;
  const above = (
    <>
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
      <Budgets spend={model.spend} trans={trans} />
    </>
  );
  return (
    <>
      <FilterBar
        filters={filters}
        machines={machines}
        shown={shown.length}
        heading={heading}
        onChange={props.onFilters}
        trans={trans}
      >
        {above}
      </FilterBar>
      {machines.length === 0 && model.problems.length === 0 && model.creations.length === 0 && (
        <Empty {...props} />
      )}
      {model.creations.length > 0 && (
        <ul className="jp-Dsvm-cards" aria-label={trans.__('New machines')}>
          {model.creations.map(operation => (
            <NewCard
              key={operation.id}
              operation={operation}
              onCancel={choice => props.onCancel(operation, choice)}
              onDismiss={() => model.dismiss(operation.id)}
              trans={trans}
            />
          ))}
        </ul>
      )}
      <Cards {...props} machines={machines} shown={machines.length > 1 ? shown : machines} />
    </>
  );
}

function Cards(
  props: IComputePanelViewProps & { machines: ICompute[]; shown: ICompute[] }
): React.ReactElement {
  const { model, notebook, machines, trans } = props;
  const current = model.kernel(notebook?.kernelId ?? null);
  const kernels = new Map<string, IKernel>();
  for (const kernel of current ? [...model.kernels, current] : model.kernels) {
    kernels.set(kernel.compute, kernel);
  }
  const names = new Map<string, ICompute[]>();
  for (const compute of machines) {
    names.set(compute.name, [...(names.get(compute.name) ?? []), compute]);
  }
  return (
    <MachineList
      machines={props.shown}
      label={trans.__('Machines')}
      card={(compute, placement) => {
        const operation = model.runningOn(compute.id);
        return (
          <Card
            key={compute.id}
            compute={compute}
            qualifier={qualifierOf(compute, names.get(compute.name) ?? [])}
            operation={operation}
            usual={operation && usualSeconds(model.operations, operation)}
            failed={model.failedOn(compute.id)}
            kernel={kernels.get(compute.id)}
            current={current}
            defaultAction={props.defaultAction}
            keepHours={props.keepHours}
            placement={placement}
            menuOf={primary => props.menuOf(compute, primary)}
            onAction={action => props.onAction(compute, action)}
            onMenu={(items, anchor) => props.onMenu(compute, items, anchor)}
            onCancel={props.onCancel}
            onDismiss={failed => model.dismiss(failed.id)}
            trans={trans}
          />
        );
      }}
    />
  );
}

function Empty(props: IComputePanelViewProps): React.ReactElement {
  const { model, trans } = props;
  return (
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
  );
}

function Footer(props: IComputePanelViewProps): React.ReactElement {
  const { model, onSettings, trans } = props;
  return (
    <div className="jp-Dsvm-footer">
      <Spending spend={model.spend} trans={trans} />
      {model.asOf && <p>{trans.__('Azure was last asked at %1.', clockText(model.asOf))}</p>}
      {onSettings && (
        <button className="jp-Dsvm-textButton" onClick={onSettings}>
          {trans.__('Settings')}
        </button>
      )}
    </div>
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
