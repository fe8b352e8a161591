import { TranslationBundle } from '@jupyterlab/translation';
import { addIcon, checkIcon, refreshIcon } from '@jupyterlab/ui-components';
import { CommandRegistry } from '@lumino/commands';
import { ReadonlyPartialJSONObject } from '@lumino/coreutils';

import { canAttach, canDetach, canSignOut, machinesOf } from './actions';
import { FREE, ICompute, IKernel } from './api';
import { chooseOne } from './choose';
import { ICurrentNotebook } from './current';
import { addFileCommands } from './files';
import { IFolderChoices } from './folderchoices';
import { computeIcon } from './icons';
import { IKnownComputes } from './knowncomputes';
import { loadDialogs } from './loaddialogs';
import { addIdleCommands } from './idlecommands';
import { addMachineCommands } from './machinecommands';
import type { IMoveAnswer } from './move';
import { FindOpened } from './opened';
import { addPowerCommands } from './powercommands';
import { asProblem } from './request';
import { ISettings } from './settings';
import { showTexts } from './texts';
import { IComputeModel } from './tokens';
import { addVariableCommands } from './variablecommands';
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
  export const keepOn = 'dsvm:keep-on';
  export const autoStop = 'dsvm:auto-stop';
  export const loadVariables = 'dsvm:load-variables';
  export const forgetVariables = 'dsvm:forget-variables';
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

export const KERNEL_ARG = {
  type: 'string',
  description: 'The id of the kernel; that of the current notebook when absent.'
} as const;

const CARRY_ARG = {
  type: 'boolean',
  description: 'Whether its variables go along, without asking where nobody need be asked.'
} as const;

const MORE_ARG = {
  type: 'boolean',
  description: 'Whether the label is for a list of machines that does not hold all of them.'
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

  const move = async (
    kernel: IKernel,
    compute: ICompute,
    args: ReadonlyPartialJSONObject
  ): Promise<void> => {
    const notebook = notebookName(kernel);
    const opened = context.opened?.(kernel.id) ?? null;
    const inFront = current.notebook?.kernelId === kernel.id ? current.notebook : null;
    // The server's list is not renewed for every cell; where the notebook is open, the page knows better.
    const busy = opened?.busy ?? (kernel.execution_state === 'busy' || !!inFront?.busy);
    const what = trans.__('%1 was not moved to %2', notebook, nameOf(compute, compute.id, trans));
    await attempt(what, async () => {
      const { allowsCarrying, askToMove, CARRY_NEEDS_YES } = await loadDialogs(trans);
      const answer = await askToMove({
        model,
        compute,
        kernel,
        notebook,
        busy,
        opened,
        known,
        folders,
        confirm: settings.confirmMove && !args.carry,
        ...(args.carry ? { carry: true } : {}),
        trans
      });
      const send = (more?: IMoveAnswer) =>
        model.move(kernel.id, { compute: compute.id, ...answer, ...more });
      try {
        if (answer) {
          await send();
        }
      } catch (reason) {
        const problem = asProblem(reason);
        const from = nameOf(model.compute(kernel.compute), kernel.compute, trans);
        if (problem.code !== CARRY_NEEDS_YES) {
          throw reason;
        }
        if (await allowsCarrying(problem, from, trans)) {
          await send({ allow_carry: true });
        }
      }
    });
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
      args: {
        ...COMPUTE_ARGS,
        properties: { ...COMPUTE_ARGS.properties, kernel: KERNEL_ARG, carry: CARRY_ARG }
      }
    },
    execute: async args => {
      const kernel = kernelOf(args);
      const compute = await pick(args, trans.__('Attach this notebook to'), c =>
        canAttach(c, model.runningOn(c.id), kernel)
      );
      if (kernel && compute) {
        await move(kernel, compute, args);
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
        properties: { menu: COMPUTE_ARGS.properties.menu, kernel: KERNEL_ARG, carry: CARRY_ARG }
      }
    },
    execute: async args => {
      const kernel = kernelOf(args);
      const free = model.compute(FREE);
      if (kernel && free && canDetach(kernel)) {
        await move(kernel, free, args);
      }
    }
  });

  commands.addCommand(CommandIDs.create, {
    label: trans.__('Create a Machine…'),
    caption: trans.__('Have a new Data Science VM made; it is billed from when it runs'),
    icon: args => (args.isPalette ? undefined : addIcon),
    isEnabled: () => model.canCreate,
    describedBy: { args: { type: 'object', properties: {} } },
    execute: () =>
      attempt(trans.__('Create a machine'), async () =>
        (await loadDialogs(trans)).create({ model, trans })
      )
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

  addPowerCommands(commands, { model, trans, settings, computeOf, pick, attempt });
  addIdleCommands(commands, { model, trans, settings, computeOf, pick, attempt });
  addMachineCommands(commands, { model, trans, computeOf, pick, attempt });
  addFileCommands(commands, { model, trans, kernelOf, attempt });
  addVariableCommands(commands, { model, trans, kernelOf, attempt });
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
