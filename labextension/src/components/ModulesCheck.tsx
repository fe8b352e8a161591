import { TranslationBundle } from '@jupyterlab/translation';
import { ISignal } from '@lumino/signaling';
import * as React from 'react';

import { IModule, IOperation } from '../api';
import { h } from '../jsx';
import { asProblem } from '../request';
import { currentStep, withPoint } from '../words';
import { Linked } from './Linked';

/** Looking for a notebook's modules on a machine, and having them installed there. */
export interface IModulesThere {
  /** What a kernel there has; the empty name leaves the choice to the server. */
  check(kernelspec: string): Promise<IModule[]>;
  install(packages: string[], kernelspec: string): Promise<IOperation>;
  /** The operation as it is now; undefined where the server knows it no more. */
  operation(id: string): IOperation | undefined;
  readonly changed: ISignal<unknown, void>;
  cancel(id: string): Promise<void>;
}

export interface IModulesCheckProps {
  there: IModulesThere;
  /** What the machine is called. */
  name: string;
  kernelspec: string;
  trans: TranslationBundle;
}

/** What the notebook imports and the machine does not have. It says so beside the question, and never holds it up. */
export function ModulesCheck(props: IModulesCheckProps): React.ReactElement {
  const { there, name, kernelspec, trans } = props;
  const [modules, setModules] = React.useState<IModule[] | null>(null);
  const [problem, setProblem] = React.useState('');
  const [round, setRound] = React.useState(0);
  const [installing, setInstalling] = React.useState('');
  const region = React.useRef<HTMLDivElement>(null);
  /** Buttons come and go here. With one that has the focus the dialog would lose it, and Escape and Enter with that. */
  const keepFocus = () => {
    const { activeElement } = document;
    if (
      !activeElement ||
      activeElement === document.body ||
      region.current?.contains(activeElement)
    ) {
      region.current?.focus();
    }
  };

  React.useEffect(() => {
    let wanted = true;
    setModules(null);
    setProblem('');
    there.check(kernelspec).then(
      found => wanted && setModules(found),
      reason => wanted && setProblem(asProblem(reason).message)
    );
    return () => {
      wanted = false;
    };
  }, [kernelspec, round]);

  const missing = modules?.filter(module => module.state === 'missing') ?? [];
  const packages = [...new Set(missing.map(module => module.package).filter(Boolean))];
  const install = async () => {
    setProblem('');
    keepFocus();
    try {
      setInstalling((await there.install(packages, kernelspec)).id);
    } catch (reason) {
      setProblem(asProblem(reason).message);
    }
  };
  return (
    <div ref={region} tabIndex={-1} className="jp-Dsvm-modules" role="status" aria-live="polite">
      {installing ? (
        <Installing
          id={installing}
          there={there}
          name={name}
          onEnd={operation => {
            keepFocus();
            setInstalling('');
            if (operation?.state === 'done') {
              setRound(round + 1);
            } else {
              setProblem(
                operation?.error?.message ??
                  trans.__('The server no longer knows what became of installing on %1.', name)
              );
            }
          }}
          trans={trans}
        />
      ) : (
        <>
          {problem && (
            <p>
              <Linked text={withPoint(problem)} />
            </p>
          )}
          {!modules && !problem && (
            <p aria-busy="true">{trans.__('Looking for what the notebook imports on %1…', name)}</p>
          )}
          {modules && (
            <Found modules={modules} missing={missing} name={name} trans={trans}>
              {packages.length > 0 && (
                <button
                  className="jp-mod-styled"
                  title={trans.__('Install %1 on %2 with pip', packages.join(', '), name)}
                  onClick={() => void install()}
                >
                  {trans.__('Install')}
                </button>
              )}
            </Found>
          )}
        </>
      )}
    </div>
  );
}

interface IFoundProps {
  modules: IModule[];
  missing: IModule[];
  name: string;
  children: React.ReactNode;
  trans: TranslationBundle;
}

function Found(props: IFoundProps): React.ReactElement | null {
  const { modules, missing, name, trans } = props;
  const named = (state: IModule['state']) =>
    modules.filter(module => module.state === state).map(module => module.name);
  const present = named('present');
  const local = named('local');
  const unknown = named('unknown');
  return (
    <>
      {missing.length > 0 && (
        <div className="jp-Dsvm-modulesMissing">
          <p>
            {trans._n(
              '%1 module is missing there: %2.',
              '%1 modules are missing there: %2.',
              missing.length,
              missing.map(withPackage).join(', ')
            )}
          </p>
          {props.children}
        </div>
      )}
      {local.length > 0 && (
        <p>
          {trans._n(
            '%2 lies beside the notebook, and is there if its folder is copied.',
            '%2 lie beside the notebook, and are there if its folder is copied.',
            local.length,
            local.join(', ')
          )}
        </p>
      )}
      {unknown.length > 0 && (
        <p>{trans.__('Whether %1 has %2 could not be found out.', name, unknown.join(', '))}</p>
      )}
      {present.length > 0 && present.length === modules.length && (
        <p className="jp-Dsvm-quiet">{trans.__('%1 has all that the notebook imports.', name)}</p>
      )}
    </>
  );
}

/** “sklearn (scikit-learn)”: what is installed for a module, where that has another name. */
function withPackage(module: IModule): string {
  const same = module.package.toLowerCase().replace(/-/g, '_') === module.name.toLowerCase();
  return same || !module.package ? module.name : `${module.name} (${module.package})`;
}

interface IInstallingProps {
  id: string;
  there: IModulesThere;
  name: string;
  onEnd: (operation: IOperation | undefined) => void;
  trans: TranslationBundle;
}

/** pip at work: its last line, and a way to end it. */
function Installing(props: IInstallingProps): React.ReactElement {
  const { id, there, name, onEnd, trans } = props;
  const [operation, setOperation] = React.useState(there.operation(id));
  React.useEffect(() => {
    const look = () => {
      const now = there.operation(id);
      setOperation(now);
      if (now?.state !== 'running') {
        onEnd(now);
      }
    };
    there.changed.connect(look);
    look();
    return () => {
      there.changed.disconnect(look);
    };
  }, [id]);
  const step = operation && currentStep(operation)?.step.text;
  return (
    <>
      <p>{trans.__('Installing on %1. You can move the notebook meanwhile.', name)}</p>
      <progress aria-label={trans.__('Installing')} />
      <p className="jp-Dsvm-quiet jp-Dsvm-lastLine" aria-live="off">
        {step}
      </p>
      <button
        className="jp-mod-styled"
        onClick={() => {
          // It may have ended in between, and then its end is shown.
          there.cancel(id).catch(() => undefined);
        }}
      >
        {trans.__('Cancel installing')}
      </button>
    </>
  );
}
