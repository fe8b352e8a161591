import { Dialog, ReactWidget, showDialog } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import {
  FREE,
  ICompute,
  IKernel,
  IKernelspec,
  IModule,
  IMoveRequest,
  IProblem,
  IWorkspaceEstimate
} from './api';
import { IFilesAlong } from './components/FilesChoice';
import { IModulesThere } from './components/ModulesCheck';
import { MoveSummary, startsMachine, WhileBusy } from './components/MoveSummary';
import { Carried } from './components/VariablesChoice';
import { IFolderChoices } from './folderchoices';
import { h } from './jsx';
import { IKnownComputes } from './knowncomputes';
import { IOpenedNotebook } from './opened';
import { IComputeModel } from './tokens';
import { goesByDefault } from './variablewords';
import { nameOf, withPoint } from './words';

export interface IMoveOptions {
  model: IComputeModel;
  kernel: IKernel;
  /** Where to. */
  compute: ICompute;
  /** The notebook's file name. */
  notebook: string;
  /** Whether a cell is running. */
  busy: boolean;
  /** The notebook as it is open in the page, if it is. */
  opened: IOpenedNotebook | null;
  known: IKnownComputes;
  /** Whether folders were copied before. */
  folders: IFolderChoices;
  /** False: do not ask where there is nothing to say that a person must know. */
  confirm?: boolean;
  /** True: somebody has already said that the variables go along. */
  carry?: boolean;
  trans: TranslationBundle;
}

/** What the server is told beside where to; what is absent is left to it. */
export type IMoveAnswer = Omit<IMoveRequest, 'compute'>;

/** How long a move that need not be asked about waits for what may make it necessary, in milliseconds. */
const CHECK_TIME = 5000;

/** Say what a move does and ask whether to. Resolves with null if not. */
export async function askToMove(options: IMoveOptions): Promise<IMoveAnswer | null> {
  const { compute, notebook, known, trans } = options;
  const firstTime = compute.id !== FREE && !(await known.has(compute.id));
  if (options.confirm === false) {
    const unasked = await withoutAsking(options, firstTime);
    if (unasked) {
      return unasked;
    }
  }
  const body = new MoveBody(options, firstTime);
  const dialog = new MoveDialog(body, {
    title: trans.__('Move %1 to %2?', notebook, nameOf(compute, compute.id, trans)),
    trans
  });
  const answer = await dialog.launch();
  if (!answer.button.accept) {
    return null;
  }
  if (firstTime) {
    await known.add(compute.id);
  }
  const value = answer.value ?? {};
  if (body.estimate?.allowed && value.sync !== undefined) {
    await options.folders.set(body.estimate.folder, value.sync);
  }
  return value;
}

/** The answer where nobody has to know of anything before the move; null where somebody has, whatever the settings are. */
async function withoutAsking(
  options: IMoveOptions,
  firstTime: boolean
): Promise<IMoveAnswer | null> {
  const { compute, busy, opened } = options;
  if (firstTime || busy || opened?.isShared || startsMachine(compute)) {
    return null;
  }
  const along = filesAlong(options);
  const carry = async (): Promise<IMoveAnswer | null> => {
    const plan = await options.model.variables(options.kernel.id, compute.id).catch(() => null);
    const goes = options.carry ?? (!!plan && goesByDefault(plan, compute.size?.memory_gib ?? null));
    return !goes ? {} : plan?.needs_yes ? null : { carry: true };
  };
  const look = async (): Promise<IMoveAnswer | null> => {
    const estimate = await along?.estimate().catch(() => undefined);
    if (estimate?.allowed) {
      const before = await along?.chosenBefore(estimate.folder);
      return estimate.needs_yes && before !== false
        ? null
        : before === false
          ? { sync: false }
          : {};
    }
    return {};
  };
  const check = modulesThere(options)?.check('') ?? Promise.resolve([]);
  const late = <T,>(value: T) =>
    new Promise<T>(resolve => setTimeout(() => resolve(value), CHECK_TIME));
  // What cannot be found out is no reason to ask: the move itself says what is wrong with the machine.
  const [found, files, carried] = await Promise.all([
    Promise.race([check.catch(() => []), late<IModule[]>([])]),
    Promise.race([look(), late<IMoveAnswer | null>({})]),
    // Of variables that take their time a person decides.
    Promise.race([carry(), late(null)])
  ]);
  return found.some(module => module.state === 'missing')
    ? null
    : files && carried && { ...files, ...carried };
}

/** What the server says where variables come from a machine of which nobody has allowed that yet. */
export const CARRY_NEEDS_YES = 'CarryNeedsYes';

/** Ask that where it had not been known before. */
export async function allowsCarrying(
  { message, advice }: IProblem,
  name: string,
  trans: TranslationBundle
): Promise<boolean> {
  const { button } = await showDialog({
    title: trans.__('Carry variables from %1?', name),
    body: [withPoint(message), advice].filter(Boolean).join(' '),
    buttons: [
      Dialog.cancelButton({ label: trans.__('Not now') }),
      Dialog.okButton({ label: trans.__('Carry them') })
    ],
    defaultButton: 0
  });
  return button.accept;
}

/** The question whether the notebook's folder goes along; there is none on the way back. */
function filesAlong({ model, kernel, compute, folders }: IMoveOptions): IFilesAlong | undefined {
  return compute.id === FREE
    ? undefined
    : {
        estimate: () => model.estimate(kernel.id, compute.id),
        chosenBefore: folder => folders.get(folder)
      };
}

/** How the notebook's modules are looked for there; undefined where that cannot be, or there are none. */
function modulesThere({ model, compute, opened }: IMoveOptions): IModulesThere | undefined {
  const sources = opened?.sources;
  if (!isReachable(compute) || !sources || sources.length === 0) {
    return undefined;
  }
  return {
    check: kernelspec =>
      model.modules(compute.id, { sources, kernelspec: kernelspec || null, path: opened.path }),
    install: (packages, kernelspec) =>
      model.install(compute.id, { packages, kernelspec: kernelspec || null }),
    operation: id => model.operations.find(operation => operation.id === id),
    changed: model.stateChanged,
    cancel: id => model.cancel(id)
  };
}

/** How advice is asked for; undefined where there is no code to read, or nothing to choose. */
function adviceOf({ model, kernel, compute, opened }: IMoveOptions) {
  const sources = opened?.sources;
  return compute.id === FREE || !sources || sources.length === 0
    ? undefined
    : () => model.advice(kernel.id, { sources });
}

/** Whether there is any use in asking that machine something. */
function isReachable(compute: ICompute): boolean {
  return compute.kind === 'host' || (compute.kind === 'dsvm' && compute.power_state === 'running');
}

/** Enter moves, but for a button inside: there it does what the button says. */
class MoveDialog extends Dialog<IMoveAnswer> {
  constructor(
    private readonly _move: MoveBody,
    options: { title: string; trans: TranslationBundle }
  ) {
    super({
      title: options.title,
      body: _move,
      buttons: [
        Dialog.cancelButton({ label: options.trans.__('Cancel') }),
        Dialog.okButton({ label: options.trans.__('Move') })
      ],
      defaultButton: 1
    });
    this.addClass('jp-Dsvm-moveDialog');
  }

  handleEvent(event: Event): void {
    const isOnButton =
      event.type === 'keydown' &&
      (event as KeyboardEvent).key === 'Enter' &&
      event.target instanceof HTMLElement &&
      this._move.node.contains(event.target) &&
      event.target.matches('button, a, summary');
    if (!isOnButton) {
      super.handleEvent(event);
    }
  }
}

class MoveBody extends ReactWidget implements Dialog.IBodyWidget<IMoveAnswer> {
  constructor(
    private readonly _options: IMoveOptions,
    private readonly _firstTime: boolean
  ) {
    super();
    this.addClass('jp-Dsvm-move');
  }

  getValue(): IMoveAnswer {
    return {
      ...(this._kernelspec ? { kernelspec: this._kernelspec } : {}),
      ...(this._whileBusy === 'interrupt' ? { interrupt: true } : {}),
      ...(this._sync === undefined ? {} : { sync: this._sync }),
      ...this._carried
    };
  }

  /** What would go along, once that is known. */
  get estimate(): IWorkspaceEstimate | null {
    return this._estimate;
  }

  protected render(): React.ReactElement {
    const { model, compute, kernel, busy, opened, trans } = this._options;
    return (
      <MoveSummary
        compute={compute}
        from={nameOf(model.compute(kernel.compute), kernel.compute, trans)}
        busy={busy}
        firstTime={this._firstTime}
        isShared={opened?.isShared ?? false}
        others={opened?.others ?? 0}
        loadKernelspecs={isReachable(compute) ? () => this._kernelspecs() : undefined}
        onKernelspec={name => {
          this._kernelspec = name;
        }}
        onWhileBusy={choice => {
          this._whileBusy = choice;
        }}
        modules={this._modules}
        loadAdvice={adviceOf(this._options)}
        files={this._files}
        onFiles={(sync, estimate) => {
          this._sync = sync;
          this._estimate = estimate;
        }}
        filesThere={this._filesThere()}
        loadVariables={() => model.variables(kernel.id, compute.id)}
        carry={this._options.carry}
        onCarry={carried => {
          this._carried = carried;
        }}
        trans={trans}
      />
    );
  }

  private _filesThere(): 'reached' | 'out of reach' | undefined {
    const { model, kernel } = this._options;
    const workspace = model.workspace(kernel.id);
    if (!workspace || workspace.state === 'off') {
      return undefined;
    }
    return kernel.link.state === 'connected' ? 'reached' : 'out of reach';
  }

  /** Those that the notebook can have: it keeps its language. */
  private async _kernelspecs(): Promise<IKernelspec[]> {
    const { model, compute, opened } = this._options;
    const language = opened?.language ?? '';
    const all = await model.kernelspecs(compute.id);
    return language === '' ? all : all.filter(spec => spec.language.toLowerCase() === language);
  }

  private readonly _files = filesAlong(this._options);
  private _sync: boolean | undefined;
  private _estimate: IWorkspaceEstimate | null = null;
  private _carried: Carried = {};
  private readonly _modules = modulesThere(this._options);
  private _kernelspec = '';
  private _whileBusy: WhileBusy = 'wait';
}
