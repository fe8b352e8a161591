import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { ICompute, IKernelspec } from '../api';
import { asProblem } from '../request';
import { nameOf, priceText, withPoint } from '../words';

export interface IMoveSummaryProps {
  /** Where to. */
  compute: ICompute;
  /** What the compute is called where the notebook runs now. */
  from: string;
  busy: boolean;
  firstTime: boolean;
  /** Which kernels can be started there; absent where nobody can know before the machine is on. */
  loadKernelspecs?: () => Promise<IKernelspec[]>;
  /** A kernel was chosen; the empty name leaves the choice to the server. */
  onKernelspec: (name: string) => void;
  trans: TranslationBundle;
}

/** The body of the move dialog: what will happen, what stays behind, what it costs. */
export function MoveSummary(props: IMoveSummaryProps): React.ReactElement {
  const { compute, from, busy, firstTime, trans } = props;
  const name = nameOf(compute, compute.id, trans);
  const isVM = compute.kind === 'dsvm';
  const isOff =
    isVM && (compute.power_state === 'deallocated' || compute.power_state === 'stopped');
  return (
    <div className="jp-Dsvm-moveSummary">
      <ul>
        {isOff && (
          <li>{trans.__('%1 is off. It is started first, and billed from then on.', name)}</li>
        )}
        {busy && <li>{trans.__('A cell is running: the notebook moves when it has finished.')}</li>}
        <li>{trans.__("Variables are not carried; run the notebook's cells again there.")}</li>
        <li>{trans.__('Until %1 has answered, the notebook stays as it is on %2.', name, from)}</li>
        {firstTime && (
          <li>
            {trans.__(
              "You have not attached to %1 before: output from there can run JavaScript in this page, as any kernel's can. Attach only to a machine you trust.",
              name
            )}
          </li>
        )}
      </ul>
      {compute.price && (
        <p title={trans.__('List price of %1; your own price may differ.', compute.price.as_of)}>
          {trans.__('While it is on: %1 (estimate).', priceText(compute.price, trans))}
        </p>
      )}
      {props.loadKernelspecs && (
        <KernelspecSelect
          load={props.loadKernelspecs}
          name={name}
          onSelect={props.onKernelspec}
          trans={trans}
        />
      )}
    </div>
  );
}

interface IKernelspecSelectProps {
  load: () => Promise<IKernelspec[]>;
  name: string;
  onSelect: (name: string) => void;
  trans: TranslationBundle;
}

/** Lets a person choose where there is a choice; says nothing where there is only one kernel. */
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
    return null;
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
