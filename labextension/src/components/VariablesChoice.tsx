import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { ICompute, IMoveRequest, IVariable, IVariables } from '../api';
import { bytesText, moreText } from '../filewords';
import { h } from '../jsx';
import { asProblem } from '../request';
import { carryLabel, chosenOf, goesByDefault, isTight, variableText } from '../variablewords';
import { memoryText, nameOf, withPoint } from '../words';

/** What a person has chosen, as the server is told; nothing where nothing goes along. */
export type Carried = Pick<IMoveRequest, 'carry' | 'allow_carry'>;

export interface IVariablesChoiceProps {
  /** The dry run. */
  load: () => Promise<IVariables>;
  /** What the compute is called where the notebook runs now. */
  from: string;
  /** Where to. */
  compute: ICompute;
  /** Somebody has already said that they go along. */
  wanted?: boolean;
  onChoose: (carried: Carried) => void;
  trans: TranslationBundle;
}

/** Whether variables go along, and which. What can is not waited for: until that is known, all that can is what may be ticked. */
export function VariablesChoice(props: IVariablesChoiceProps): React.ReactElement | null {
  const { load, from, compute, onChoose, trans } = props;
  const [plan, setPlan] = React.useState<IVariables | null>(null);
  const [problem, setProblem] = React.useState('');
  /** What the person has said in this dialog, or before it. */
  const [said, setSaid] = React.useState(props.wanted);
  const [left, setLeft] = React.useState<ReadonlySet<string>>(new Set());
  const [isAllowed, setAllowed] = React.useState(false);
  const id = React.useId();
  React.useEffect(() => {
    let wanted = true;
    load().then(
      found => wanted && setPlan(found),
      reason => wanted && setProblem(withPoint(asProblem(reason).message))
    );
    return () => {
      wanted = false;
    };
  }, []);

  const isReady = plan?.state === 'ready';
  const chosen = isReady ? chosenOf(plan, left) : null;
  const memory = compute.size?.memory_gib ?? null;
  const moving = isReady ? plan.variables.filter(({ moves }) => moves) : [];
  const isPossible =
    plan?.state !== 'unsupported' && (!isReady || moving.length > 0 || plan.more > 0);
  // What needs a yes first is not offered as if it had been given.
  const byDefault = !!plan && !plan.needs_yes && goesByDefault(plan, memory);
  const isChecked = isPossible && chosen?.count !== 0 && (said ?? byDefault);
  const needsYes = isChecked && !!plan?.needs_yes;
  // At once, so that what is seen is what is sent.
  React.useLayoutEffect(() => {
    onChoose(
      !isChecked
        ? {}
        : {
            carry: chosen && left.size > 0 ? chosen.names : true,
            ...(needsYes && isAllowed && { allow_carry: true })
          }
    );
  }, [isChecked, left, needsYes, isAllowed, plan]);

  if (isReady && plan.variables.length === 0) {
    return null;
  }
  return (
    <div className="jp-Dsvm-variables">
      {isPossible && (
        <Tick
          isTicked={isChecked}
          describedBy={id}
          onTick={ticked => {
            setSaid(ticked);
            if (chosen?.count === 0) {
              setLeft(new Set());
            }
          }}
        >
          {chosen && plan ? carryLabel(plan, chosen, trans) : trans.__('Carry variables')}
        </Tick>
      )}
      <div id={id} role="status" aria-live="polite">
        {!plan && !problem && (
          <p className="jp-Dsvm-quiet" aria-busy="true">
            {trans.__('Looking which of them can be moved…')}
          </p>
        )}
        {problem && (
          <p>{trans.__('Which of them can be moved could not be found out: %1', problem)}</p>
        )}
        {plan?.state === 'busy' && (
          <p className="jp-Dsvm-quiet">
            {trans.__('A cell runs. Those that can be moved then are carried when it has ended.')}
          </p>
        )}
        {plan && !isReady && plan.state !== 'busy' && <p>{withPoint(plan.reason)}</p>}
        {!isPossible && isReady && (
          <p>{trans.__('None of the variables can be moved; they stay behind on %1.', from)}</p>
        )}
        {chosen && memory !== null && isTight(chosen.bytes, memory) && (
          <p>
            {trans.__(
              '%1 may not fit: %2 has %3 of memory in all.',
              bytesText(chosen.bytes, trans),
              nameOf(compute, compute.id, trans),
              memoryText(memory, trans)
            )}
          </p>
        )}
      </div>
      {isReady && (
        <Names
          plan={plan}
          left={left}
          isOn={isChecked}
          onLeft={next => {
            setLeft(next);
            setSaid(true);
          }}
          trans={trans}
        />
      )}
      {needsYes && (
        <Tick className="jp-Dsvm-allow" isTicked={isAllowed} onTick={setAllowed}>
          {compute.kind === 'free'
            ? trans.__(
                'Allow that for %1 from now on: loading them runs what %1 sends on this server, where it could act as you.',
                from
              )
            : trans.__(
                'Allow that for %1 from now on: loading them runs what %1 sends on %2, where it could act as you.',
                from,
                compute.name
              )}
        </Tick>
      )}
    </div>
  );
}

interface ITickProps {
  isTicked: boolean;
  onTick: (isTicked: boolean) => void;
  describedBy?: string;
  className?: string;
  children: React.ReactNode;
}

function Tick(props: ITickProps): React.ReactElement {
  return (
    <label className={`jp-Dsvm-check ${props.className ?? ''}`}>
      <input
        type="checkbox"
        checked={props.isTicked}
        aria-describedby={props.describedBy}
        onChange={event => props.onTick(event.target.checked)}
      />
      <span>{props.children}</span>
    </label>
  );
}

interface INamesProps {
  plan: IVariables;
  left: ReadonlySet<string>;
  /** Whether any go along. */
  isOn: boolean;
  onLeft: (left: ReadonlySet<string>) => void;
  trans: TranslationBundle;
}

/** Each variable: those that can be moved to choose from, the others with the reason. */
function Names({ plan, left, isOn, onLeft, trans }: INamesProps): React.ReactElement {
  const moving = plan.variables.filter(({ moves }) => moves);
  const pick = (name: string, isIn: boolean): void => {
    // Where none goes along, the one that is ticked goes alone.
    const next = new Set(isOn ? left : moving.map(variable => variable.name));
    next[isIn ? 'delete' : 'add'](name);
    onLeft(next);
  };
  const detail = (variable: IVariable): React.ReactElement => (
    <span className="jp-Dsvm-quiet jp-Dsvm-detail">
      {variable.moves ? variableText(variable, trans) : withPoint(variable.reason)}
    </span>
  );
  return (
    <details>
      <summary>{moving.length > 0 ? trans.__('Choose which') : trans.__('Why not')}</summary>
      {/* It scrolls where there are many, and so the keyboard must come by. */}
      <ul tabIndex={0} aria-label={trans.__('Variables')}>
        {[...moving, ...plan.variables.filter(({ moves }) => !moves)].map(variable => (
          <li key={variable.name}>
            {variable.moves ? (
              <Tick
                isTicked={isOn && !left.has(variable.name)}
                onTick={isIn => pick(variable.name, isIn)}
              >
                <span className="jp-Dsvm-path">{variable.name}</span>
                {detail(variable)}
              </Tick>
            ) : (
              <>
                <span className="jp-Dsvm-path">{variable.name}</span>
                {detail(variable)}
              </>
            )}
          </li>
        ))}
      </ul>
      {plan.more > 0 && <p className="jp-Dsvm-quiet">{moreText(plan.more, trans)}</p>}
    </details>
  );
}
