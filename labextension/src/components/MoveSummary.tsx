import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { IAdvice, ICompute, IKernelspec, IVariables, IWorkspaceEstimate } from '../api';
import { autoStopText } from '../idlewords';
import { h } from '../jsx';
import { asProblem } from '../request';
import { nameOf, priceText, withPoint } from '../words';
import { AdviceLine } from './AdviceLine';
import { FilesChoice, IFilesAlong } from './FilesChoice';
import { IModulesThere, ModulesCheck } from './ModulesCheck';
import { Carried, VariablesChoice } from './VariablesChoice';

/** What becomes of a cell that runs. */
export type WhileBusy = 'wait' | 'interrupt';

export interface IMoveSummaryProps {
  /** Where to. */
  compute: ICompute;
  /** What the compute is called where the notebook runs now. */
  from: string;
  busy: boolean;
  firstTime: boolean;
  /** Whether the notebook is a document that several people work in, and how many others do now. */
  isShared: boolean;
  others: number;
  /** Which kernels can be started there; absent where nobody can know before the machine is on. */
  loadKernelspecs?: () => Promise<IKernelspec[]>;
  /** A kernel was chosen; the empty name leaves the choice to the server. */
  onKernelspec: (name: string) => void;
  onWhileBusy: (choice: WhileBusy) => void;
  /** Absent where the modules cannot be looked for: no Python, no code, or the machine is off. */
  modules?: IModulesThere;
  /** Absent where there is no code to read. */
  loadAdvice?: () => Promise<IAdvice>;
  /** Absent where nothing goes along: back to the free tier. */
  files?: IFilesAlong;
  onFiles?: (sync: boolean | undefined, estimate: IWorkspaceEstimate | null) => void;
  /** Which variables could go along. */
  loadVariables: () => Promise<IVariables>;
  /** Somebody has already said that they do. */
  carry?: boolean;
  onCarry: (carried: Carried) => void;
  /** The state of files that are on the machine where the notebook runs now; absent where none travel. */
  filesThere?: 'reached' | 'out of reach';
  trans: TranslationBundle;
}

/** Whether the move has the machine started, which is billed from then on. */
export function startsMachine(compute: ICompute): boolean {
  return (
    compute.kind === 'dsvm' &&
    ['deallocated', 'stopped', 'deallocating', 'stopping'].includes(compute.power_state)
  );
}

/** The body of the move dialog: what will happen, what stays behind, what it costs. */
export function MoveSummary(props: IMoveSummaryProps): React.ReactElement {
  const { compute, from, firstTime, trans } = props;
  const [kernelspec, setKernelspec] = React.useState('');
  const [isCarrying, setCarrying] = React.useState(false);
  const name = nameOf(compute, compute.id, trans);
  const starts = startsMachine(compute);
  const autoStop = autoStopText(compute, trans);
  const isOff = compute.kind === 'dsvm' && compute.power_state !== 'running';
  return (
    <div className="jp-Dsvm-moveSummary">
      <ul>
        {starts && <Billed compute={compute} name={name} trans={trans} />}
        {autoStop && <li>{autoStop}</li>}
        {!isCarrying && (
          <li>
            {trans.__('Variables stay behind on %1: run the cells that make them again.', from)}
          </li>
        )}
        <li>{trans.__('Until %1 has answered, the notebook stays as it is on %2.', name, from)}</li>
        {props.filesThere && (
          <li>
            {props.filesThere === 'reached'
              ? trans.__('Files that have changed on %1 come back first.', from)
              : trans.__(
                  'Files that have changed on %1 since it was last reached stay there; they come when it is attached again.',
                  from
                )}
          </li>
        )}
        {props.isShared && <li>{sharedText(props.others, trans)}</li>}
        {isOff && (
          <li>
            {trans.__('Once %1 is on, the kernel most like this notebook’s is chosen there.', name)}
          </li>
        )}
        {firstTime && (
          <li>
            {trans.__(
              "You have not attached to %1 before: output from there can run JavaScript in this page, as any kernel's can. Attach only to a machine you trust.",
              name
            )}
          </li>
        )}
      </ul>
      <VariablesChoice
        load={props.loadVariables}
        from={from}
        compute={compute}
        wanted={props.carry}
        onChoose={carried => {
          setCarrying(!!carried.carry);
          props.onCarry(carried);
        }}
        trans={trans}
      />
      {props.files && (
        <FilesChoice
          along={props.files}
          onChoose={(sync, estimate) => props.onFiles?.(sync, estimate)}
          trans={trans}
        />
      )}
      {props.loadKernelspecs && (
        <KernelspecSelect
          load={props.loadKernelspecs}
          name={name}
          onSelect={chosen => {
            setKernelspec(chosen);
            props.onKernelspec(chosen);
          }}
          trans={trans}
        />
      )}
      {props.modules && (
        <ModulesCheck there={props.modules} name={name} kernelspec={kernelspec} trans={trans} />
      )}
      {props.loadAdvice && <AdviceLine compute={compute} load={props.loadAdvice} trans={trans} />}
      {props.busy && <BusyChoice name={name} onChoose={props.onWhileBusy} trans={trans} />}
      {!starts && compute.price && (
        <p className="jp-Dsvm-quiet" title={priceSource(compute.price.as_of, trans)}>
          {trans.__('It is on already, at %1.', priceText(compute.price, trans))}
        </p>
      )}
    </div>
  );
}

function priceSource(asOf: string, trans: TranslationBundle): string {
  return trans.__(
    'An estimate: the list price in Azure’s Retail Prices of %1. Your own price may differ.',
    asOf
  );
}

function sharedText(others: number, trans: TranslationBundle): string {
  return others > 0
    ? trans._n(
        '%1 other person works in this notebook, shares its kernel, and moves with you.',
        '%1 other people work in this notebook, share its kernel, and move with you.',
        others
      )
    : trans.__('Whoever else opens this notebook shares its kernel, and moves with you.');
}

interface IBilledProps {
  compute: ICompute;
  name: string;
  trans: TranslationBundle;
}

function Billed({ compute, name, trans }: IBilledProps): React.ReactElement {
  const { price } = compute;
  const isBilled = compute.power_state === 'stopped';
  if (!price) {
    return (
      <li>
        {isBilled
          ? trans.__('%1 is off, but billed. It is started first.', name)
          : trans.__(
              '%1 is off. It is started first, and billed from then on; its price is not known.',
              name
            )}
      </li>
    );
  }
  const amount = priceText(price, trans);
  return (
    <li title={priceSource(price.as_of, trans)}>
      {isBilled
        ? trans.__('%1 is off, but billed (%2). It is started first.', name, amount)
        : trans.__('%1 is off. It is started first, and billed %2 from then on.', name, amount)}
    </li>
  );
}

interface IBusyChoiceProps {
  name: string;
  onChoose: (choice: WhileBusy) => void;
  trans: TranslationBundle;
}

/** A cell is running: wait for it, or not. */
function BusyChoice({ name, onChoose, trans }: IBusyChoiceProps): React.ReactElement {
  const [chosen, setChosen] = React.useState<WhileBusy>('wait');
  const choices: [WhileBusy, string, string][] = [
    [
      'wait',
      trans.__('Wait until it finishes'),
      trans.__('Cells that are queued behind it then run on %1.', name)
    ],
    [
      'interrupt',
      trans.__('Interrupt it'),
      trans.__('Not before %1 has answered. Cells that are queued behind it do not run.', name)
    ]
  ];
  return (
    <fieldset className="jp-Dsvm-busy">
      <legend>{trans.__('A cell is running.')}</legend>
      {choices.map(([choice, label, detail]) => (
        <label key={choice} className="jp-Dsvm-check">
          <input
            type="radio"
            name="jp-Dsvm-while-busy"
            value={choice}
            checked={chosen === choice}
            onChange={() => {
              setChosen(choice);
              onChoose(choice);
            }}
          />
          <span>
            {label}
            <span className="jp-Dsvm-quiet jp-Dsvm-detail">{detail}</span>
          </span>
        </label>
      ))}
    </fieldset>
  );
}

interface IKernelspecSelectProps {
  load: () => Promise<IKernelspec[]>;
  name: string;
  onSelect: (name: string) => void;
  trans: TranslationBundle;
}

/** Lets a person choose where there is a choice; says which it is where there is only one kernel. */
function KernelspecSelect(props: IKernelspecSelectProps): React.ReactElement | null {
  const { load, name, onSelect, trans } = props;
  const [kernelspecs, setKernelspecs] = React.useState<IKernelspec[] | null>(null);
  const [problem, setProblem] = React.useState('');
  React.useEffect(() => {
    let wanted = true;
    load().then(
      found => wanted && setKernelspecs(found),
      reason => wanted && setProblem(asProblem(reason).message)
    );
    return () => {
      wanted = false;
    };
  }, []);
  if (problem) {
    return (
      <p role="status">
        {trans.__(
          'The kernels of %1 could not be listed: %2 One is chosen when it moves.',
          name,
          withPoint(problem)
        )}
      </p>
    );
  }
  if (!kernelspecs) {
    return (
      <p role="status" aria-busy="true">
        {trans.__('Asking %1 which kernels it has…', name)}
      </p>
    );
  }
  if (kernelspecs.length < 2) {
    return (
      <p>
        {kernelspecs.length === 1
          ? trans.__('Kernel on %1: %2', name, kernelspecs[0].display_name)
          : trans.__('%1 has no kernel of this notebook’s language.', name)}
      </p>
    );
  }
  return (
    <label className="jp-Dsvm-field">
      {trans.__('Kernel on %1', name)}
      <div className="jp-select-wrapper">
        <select
          className="jp-mod-styled"
          defaultValue=""
          onChange={event => onSelect(event.target.value)}
        >
          <option value="">{trans.__('The one most like this notebook’s')}</option>
          {kernelspecs.map(spec => (
            <option key={spec.name} value={spec.name}>
              {spec.display_name}
            </option>
          ))}
        </select>
      </div>
    </label>
  );
}
