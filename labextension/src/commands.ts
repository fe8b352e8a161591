import { Dialog, showDialog } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import { addIcon, checkIcon, refreshIcon } from '@jupyterlab/ui-components';
import { CommandRegistry } from '@lumino/commands';
import { ReadonlyPartialJSONObject } from '@lumino/coreutils';

import { canAttach, canChange, canDetach, canResize, canSignOut, machinesOf } from './actions';
import { ComputeAction, FREE, ICompute, IKernel } from './api';
import { chooseOne } from './choose';
import { create } from './create';
import { ICurrentNotebook } from './current';
import { addFileCommands } from './files';
import { IFolderChoices } from './folderchoices';
import { computeIcon } from './icons';
import { addMachineCommands } from './machinecommands';
import { askToMove, IKnownComputes } from './move';
import { FindOpened } from './opened';
import { asProblem } from './request';
import { resize } from './resize';
import { ISettings } from './settings';
import { showTexts } from './texts';
import { IComputeModel } from './tokens';
import { addWaitingCommands } from './waitingcommands';
import { nameOf, qualifierOf, shortState, sizeText } from './words';

export namespace CommandIDs {
  export const open = 'dsvm:open';
  export const attach = 'dsvm:attach';
  export const detach = 'dsvm:detach';
  export const start = 'dsvm:start';
  export const stop = 'dsvm:stop';
  export const restart = 'dsvm:restart';
  export const resize = 'dsvm:resize';
  export const create = 'dsvm:create';
  export const signIn = 'dsvm:sign-in';
  export const signOut = 'dsvm:sign-out';
  export const refresh = 'dsvm:refresh';
  export const openTerminal = 'dsvm:open-terminal';
  export const copySSH = 'dsvm:copy-ssh';
  export const cancelMove = 'dsvm:cancel-move';
  export const stopWaiting = 'dsvm:stop-waiting';
  export const reconnect = 'dsvm:reconnect';
  export const sync = 'dsvm:sync';
  export const openSettings = 'dsvm:open-settings';
}

/** What the commands act on. */
export interface ICommandContext {
  model: IComputeModel;
  current: ICurrentNotebook;
  known: IKnownComputes;
  folders: IFolderChoices;
  settings: ISettings;
  trans: TranslationBundle;
  /** Show the panel. */
  openPanel: () => void;
  /** Notebooks that are open in the page. */
  opened?: FindOpened;
}

export const COMPUTE_ARGS = {
  type: 'object',
  properties: {
    compute: {
      type: 'string',
      description: 'The id or the name of a machine; asked for when absent.'
    },
    menu: { type: 'boolean', description: 'Whether the label is for a list of machines.' }
  }
} as const;

const KERNEL_ARG = {
  type: 'string',
  description: 'The id of the kernel to move; that of the current notebook when absent.'
} as const;

const MORE_ARG = {
  type: 'boolean',
  description: 'Whether the label is for a list of machines that does not hold all of them.'
} as const;

const ASK_ARG = {
  type: 'boolean',
  description: 'Whether to ask first also where no notebook runs there.'
} as const;

/**
 * Add the commands. The panel, the chip's menu and the palette all go through them.
 */
export function addCommands(commands: CommandRegistry, context: ICommandContext): void {
  const { model, current, known, folders, settings, trans } = context;

  const computeOf = (args: ReadonlyPartialJSONObject): ICompute | undefined =>
    model.computes.find(c => c.id === args.compute) ??
    model.computes.find(c => c.name === args.compute);

  const kernelOf = (args: ReadonlyPartialJSONObject): IKernel | undefined =>
    model.kernel(
      typeof args.kernel === 'string' ? args.kernel : (current.notebook?.kernelId ?? null)
    );

  const notebookName = (kernel: IKernel): string => {
    const { notebook } = current;
    return notebook?.kernelId === kernel.id
      ? notebook.name
      : (kernel.path?.split('/').pop() ?? trans.__('this notebook'));
  };

  const isWhere = (args: ReadonlyPartialJSONObject, compute: string | undefined): boolean =>
    !!args.menu && compute !== undefined && kernelOf(args)?.compute === compute;

  /** Do it, and show what went wrong. */
  const attempt = async (what: string, action: () => Promise<unknown>): Promise<void> => {
    try {
      await action();
    } catch (reason) {
      const problem = asProblem(reason);
      await showTexts(what, [problem.message, problem.advice].filter(Boolean));
    }
  };

  /** The machine named in the arguments, or the one a person picks among those where it is possible. */
  const pick = async (
    args: ReadonlyPartialJSONObject,
    title: string,
    possible: (compute: ICompute) => boolean
  ): Promise<ICompute | undefined> => {
    if (args.compute !== undefined) {
      const compute = computeOf(args);
      return compute && possible(compute) ? compute : undefined;
    }
    const choices = machinesOf(model).filter(possible);
    const labels = choices.map(c =>
      [c.name, qualifierOf(c, choices), sizeText(c.size, trans)].filter(Boolean).join(' · ')
    );
    const chosen = await chooseOne(title, labels, trans);
    return chosen === null ? undefined : choices[labels.indexOf(chosen)];
  };

  const move = async (kernel: IKernel, compute: ICompute): Promise<void> => {
    const notebook = notebookName(kernel);
    const opened = context.opened?.(kernel.id) ?? null;
    const inFront = current.notebook?.kernelId === kernel.id ? current.notebook : null;
    // The server's list is not renewed for every cell; where the notebook is open, the page knows better.
    const busy = opened?.busy ?? (kernel.execution_state === 'busy' || !!inFront?.busy);
    const answer = await askToMove({
      model,
      compute,
      kernel,
      notebook,
      busy,
      opened,
      known,
      folders,
      confirm: settings.confirmMove,
      trans
    });
    if (!answer) {
      return;
    }
    await attempt(
      trans.__('%1 was not moved to %2', notebook, nameOf(compute, compute.id, trans)),
      () => model.move(kernel.id, compute.id, answer.kernelspec, answer.interrupt, answer.sync)
    );
  };

  commands.addCommand(CommandIDs.open, {
    label: args => (args.more ? trans.__('More Machines…') : trans.__('Open Compute')),
    caption: trans.__('Show where this notebook runs and which machines there are'),
    icon: args => (args.isPalette ? undefined : computeIcon),
    describedBy: { args: { type: 'object', properties: { more: MORE_ARG } } },
    execute: () => context.openPanel()
  });

  commands.addCommand(CommandIDs.attach, {
    label: args => {
      const compute = computeOf(args);
      if (!compute) {
        return trans.__('Attach Notebook to a Machine…');
      }
      if (!args.menu) {
        return trans.__('Attach Notebook to %1…', compute.name);
      }
      const state =
        compute.os === 'windows'
          ? trans.__('Windows')
          : shortState(compute, model.runningOn(compute.id), trans);
      const twin = qualifierOf(compute, model.computes);
      return [compute.name, twin, state].filter(Boolean).join(' · ');
    },
    caption: trans.__(
      'Go on running the current notebook on that machine; it is started first where it is off'
    ),
    isEnabled: args => {
      const kernel = kernelOf(args);
      const possible = (c: ICompute) => canAttach(c, model.runningOn(c.id), kernel);
      const compute = computeOf(args);
      return args.compute === undefined
        ? model.computes.some(possible)
        : !!compute && possible(compute);
    },
    icon: args => (isWhere(args, computeOf(args)?.id) ? checkIcon : undefined),
    isToggled: args => isWhere(args, computeOf(args)?.id),
    isToggleable: true,
    describedBy: {
      args: { ...COMPUTE_ARGS, properties: { ...COMPUTE_ARGS.properties, kernel: KERNEL_ARG } }
    },
    execute: async args => {
      const kernel = kernelOf(args);
      const compute = await pick(args, trans.__('Attach this notebook to'), c =>
        canAttach(c, model.runningOn(c.id), kernel)
      );
      if (kernel && compute) {
        await move(kernel, compute);
      }
    }
  });

  commands.addCommand(CommandIDs.detach, {
    label: args => {
      const free = model.compute(FREE);
      return args.menu
        ? [trans.__('Free tier'), sizeText(free?.size ?? null, trans)].filter(Boolean).join(' · ')
        : trans.__('Return Notebook to Free Tier…');
    },
    caption: trans.__('Go on running the current notebook on this Jupyter server'),
    isEnabled: args => canDetach(kernelOf(args)),
    icon: args => (isWhere(args, FREE) ? checkIcon : undefined),
    isToggled: args => isWhere(args, FREE),
    isToggleable: true,
    describedBy: {
      args: {
        type: 'object',
        properties: { menu: COMPUTE_ARGS.properties.menu, kernel: KERNEL_ARG }
      }
    },
    execute: async args => {
      const kernel = kernelOf(args);
      const free = model.compute(FREE);
      if (kernel && free && canDetach(kernel)) {
        await move(kernel, free);
      }
    }
  });

  /** Stopping or restarting ends the kernels there: say which notebooks lose their variables. `ask`: also where none does. */
  const confirmed = async (
    action: ComputeAction,
    compute: ICompute,
    ask: boolean
  ): Promise<boolean> => {
    const wanted = action === 'stop' ? settings.confirmStop : settings.confirmRestart;
    if (action === 'start' || (compute.attached.length === 0 && !ask && !wanted)) {
      return true;
    }
    const label = action === 'stop' ? trans.__('Stop') : trans.__('Restart');
    const files =
      action === 'stop' && model.workspaces.some(w => w.compute === compute.id && w.state !== 'off')
        ? trans.__('Files that have changed there come back first.')
        : '';
    const answer = await showDialog({
      title: trans.__('%1 %2?', label, compute.name),
      body: [
        compute.attached.length === 0
          ? trans.__('No notebook of yours runs there. Its disk and what is on it stay.')
          : trans._n(
              '%2 runs there. Its variables will be lost; the file and its outputs stay.',
              'These notebooks run there: %2. Their variables will be lost; the files and their outputs stay.',
              compute.attached.length,
              compute.attached.join(', ')
            ),
        files
      ]
        .filter(Boolean)
        .join(' '),
      buttons: [Dialog.cancelButton({ label: trans.__('Cancel') }), Dialog.warnButton({ label })]
    });
    return answer.button.accept;
  };

  const change = (id: string, action: ComputeAction, text: IChangeText): void => {
    commands.addCommand(id, {
      label: args => {
        const compute = computeOf(args);
        if (args.menu) {
          return text.short;
        }
        return compute ? text.named(compute.name) : text.unnamed;
      },
      caption: text.caption,
      isEnabled: args => {
        const possible = (c: ICompute) => canChange(c, model.runningOn(c.id), action);
        const compute = computeOf(args);
        return args.compute === undefined
          ? model.computes.some(possible)
          : !!compute && possible(compute);
      },
      describedBy: {
        args: { ...COMPUTE_ARGS, properties: { ...COMPUTE_ARGS.properties, ask: ASK_ARG } }
      },
      execute: async args => {
        const compute = await pick(args, text.unnamed, c =>
          canChange(c, model.runningOn(c.id), action)
        );
        if (compute && (await confirmed(action, compute, !!args.ask))) {
          await attempt(text.failed(compute.name), () => model.change(compute.id, action));
        }
      }
    });
  };

  change(CommandIDs.start, 'start', {
    short: trans.__('Start'),
    named: name => trans.__('Start %1', name),
    unnamed: trans.__('Start a Machine…'),
    failed: name => trans.__('%1 was not started', name),
    caption: trans.__('Turn the machine on; it is billed from then on')
  });
  change(CommandIDs.stop, 'stop', {
    short: trans.__('Stop'),
    named: name => trans.__('Stop %1', name),
    unnamed: trans.__('Stop a Machine…'),
    failed: name => trans.__('%1 was not stopped', name),
    caption: trans.__('Turn the machine off and release it, so that only its disk is billed')
  });
  change(CommandIDs.restart, 'restart', {
    short: trans.__('Restart'),
    named: name => trans.__('Restart %1', name),
    unnamed: trans.__('Restart a Machine…'),
    failed: name => trans.__('%1 was not restarted', name),
    caption: trans.__('Turn the machine off and on again')
  });

  commands.addCommand(CommandIDs.resize, {
    label: args => {
      const compute = computeOf(args);
      if (args.menu) {
        return trans.__('Resize…');
      }
      return compute ? trans.__('Resize %1…', compute.name) : trans.__('Resize a Machine…');
    },
    caption: trans.__('Give the machine another size; its disk and what is on it stay'),
    isEnabled: args => {
      const possible = (c: ICompute) => canResize(c, model.runningOn(c.id));
      const compute = computeOf(args);
      return args.compute === undefined
        ? model.computes.some(possible)
        : !!compute && possible(compute);
    },
    describedBy: {
      args: {
        ...COMPUTE_ARGS,
        properties: {
          ...COMPUTE_ARGS.properties,
          withoutGpu: { type: 'boolean', description: 'Whether to show sizes without GPU only.' }
        }
      }
    },
    execute: async args => {
      const compute = await pick(args, trans.__('Resize a Machine…'), c =>
        canResize(c, model.runningOn(c.id))
      );
      if (compute) {
        await resize({ model, compute, trans, withoutGpu: !!args.withoutGpu });
      }
    }
  });

  commands.addCommand(CommandIDs.create, {
    label: trans.__('Create a Machine…'),
    caption: trans.__('Have a new Data Science VM made; it is billed from when it runs'),
    icon: args => (args.isPalette ? undefined : addIcon),
    isEnabled: () => model.canCreate,
    describedBy: { args: { type: 'object', properties: {} } },
    execute: () => create({ model, trans })
  });

  commands.addCommand(CommandIDs.signIn, {
    label: args =>
      args.menu
        ? trans.__('Sign in with Another Account or Tenant…')
        : trans.__('Sign in to Azure…'),
    caption: trans.__('Choose how to sign in to Azure'),
    isEnabled: () => model.signIn.status !== null && !model.signIn.isAsking,
    describedBy: { args: { type: 'object', properties: { menu: COMPUTE_ARGS.properties.menu } } },
    execute: () => {
      context.openPanel();
      model.signIn.choose();
    }
  });

  commands.addCommand(CommandIDs.signOut, {
    label: args => (args.menu ? trans.__('Sign out') : trans.__('Sign out of Azure')),
    caption: trans.__('Forget who signed in to Azure here; kernels on machines go on running'),
    isEnabled: () => canSignOut(model.signIn.status),
    describedBy: { args: { type: 'object', properties: { menu: COMPUTE_ARGS.properties.menu } } },
    execute: () => model.signIn.signOut()
  });

  commands.addCommand(CommandIDs.refresh, {
    label: trans.__('Refresh the List of Machines'),
    caption: trans.__('Ask Azure again which machines there are'),
    icon: args => (args.isPalette ? undefined : refreshIcon),
    describedBy: { args: { type: 'object', properties: {} } },
    // A failure stays in the panel with its advice, so it needs no dialog here.
    execute: () => model.refresh().catch(() => undefined)
  });

  addMachineCommands(commands, { model, trans, computeOf, pick, attempt });
  addFileCommands(commands, { model, trans, kernelOf, attempt });
  addWaitingCommands(commands, { model, trans, computeOf, pick, attempt, kernelOf });

  const update = () => commands.notifyCommandChanged();
  model.stateChanged.connect(update);
  current.changed.connect(update);
}

/** What commands in other modules share with those here. */
export interface ICommandTools {
  model: IComputeModel;
  trans: TranslationBundle;
  /** The machine named in a command's arguments. */
  computeOf: (args: ReadonlyPartialJSONObject) => ICompute | undefined;
  /** That machine if it is possible there, or the one a person picks where none is named. */
  pick: (
    args: ReadonlyPartialJSONObject,
    title: string,
    possible: (compute: ICompute) => boolean
  ) => Promise<ICompute | undefined>;
  /** Do it, and show what went wrong under this title. */
  attempt: (what: string, action: () => Promise<unknown>) => Promise<void>;
}

/** The texts of a command that changes a machine. */
interface IChangeText {
  /** In the machine's own menu. */
  short: string;
  named: (name: string) => string;
  unnamed: string;
  failed: (name: string) => string;
  caption: string;
}
