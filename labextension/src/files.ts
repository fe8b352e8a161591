/** What a person can have done to the files that travel with a notebook. */
import { Dialog, showDialog } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import { ReadonlyPartialJSONObject } from '@lumino/coreutils';

import { IKernel, IOperation, IWorkspace, IWorkspaceConflict, Keep } from './api';
import { CommandIDs } from './commands';
import { IWorkspaceActions, NEEDS_YES } from './components/Workspace';
import { asProblem } from './request';
import { showTexts } from './texts';
import { IComputeModel } from './tokens';
import { nameOf, withPoint } from './words';

/** JupyterLab's and Notebook 7's own. */
export const OPEN_FILE = 'docmanager:open';

export interface IFileTools {
  model: IComputeModel;
  commands: CommandRegistry;
  trans: TranslationBundle;
}

/** The panel's buttons for files. What the server refuses is shown. */
export function fileActions(tools: IFileTools): IWorkspaceActions {
  const { model, commands, trans } = tools;
  const attempt = async (what: string, action: () => Promise<unknown>): Promise<void> => {
    try {
      await action();
    } catch (reason) {
      const { message, advice } = asProblem(reason);
      await showTexts(what, [message, advice].filter(Boolean));
    }
  };
  const notCopied = trans.__('The files were not copied');
  return {
    sync: ({ id }) => void attempt(notCopied, () => model.sync(id)),
    force: workspace =>
      void attempt(notCopied, async () => {
        if (workspace.problem?.code === NEEDS_YES) {
          await model.sync(workspace.id, { yes: true });
        } else if (await confirmForce(workspace, model, trans)) {
          await model.sync(workspace.id, { force: true });
        }
      }),
    show: commands.hasCommand(OPEN_FILE)
      ? (workspace, conflict) =>
          void attempt(trans.__('%1 could not be shown', conflict.path), () =>
            showBoth(commands, workspace, conflict)
          )
      : undefined,
    keep: ({ id }, { path, kept_as }, keep: Keep) =>
      void attempt(trans.__('%1 stays as it is', path), () => model.resolve(id, kept_as, keep)),
    fetch: ({ id }, paths) => void attempt(notCopied, () => model.fetch(id, paths)),
    cancel: ({ id }: IOperation) => {
      // It may have ended in between, and then its end is shown.
      model.cancel(id).catch(() => undefined);
    }
  };
}

/** Say what the plan is that a sync had stopped before, and ask whether to carry it out. */
async function confirmForce(
  workspace: IWorkspace,
  model: IComputeModel,
  trans: TranslationBundle
): Promise<boolean> {
  const { problem, compute } = workspace;
  const name = nameOf(model.compute(compute), compute, trans);
  const answer = await showDialog({
    title: trans.__('Synchronize anyway?'),
    body: [
      problem ? withPoint(problem.message) : '',
      trans.__(
        'It is done all the same: what is gone on one side is then deleted on the other, here or on %1. What is deleted stays in the folder’s trash (.dsvm-trash) for a week. If something has changed meanwhile, you are asked again.',
        name
      )
    ]
      .filter(Boolean)
      .join(' '),
    buttons: [
      Dialog.cancelButton({ label: trans.__('Cancel') }),
      Dialog.warnButton({ label: trans.__('Sync anyway') })
    ],
    defaultButton: 0
  });
  return answer.button.accept;
}

/** Both versions of a file, side by side. */
async function showBoth(
  commands: CommandRegistry,
  { folder }: IWorkspace,
  conflict: IWorkspaceConflict
): Promise<void> {
  const inRoot = (path: string): string => (folder ? `${folder}/${path}` : path);
  const mine: unknown = await commands.execute(OPEN_FILE, { path: inRoot(conflict.path) });
  const id = (mine as { id?: unknown } | undefined)?.id;
  await commands.execute(OPEN_FILE, {
    path: inRoot(conflict.kept_as),
    options: { mode: 'split-right', ...(typeof id === 'string' ? { ref: id } : {}) }
  });
}

export interface ISyncCommandTools {
  model: IComputeModel;
  trans: TranslationBundle;
  /** The kernel named in a command's arguments, or the current notebook's. */
  kernelOf: (args: ReadonlyPartialJSONObject) => IKernel | undefined;
  attempt: (what: string, action: () => Promise<unknown>) => Promise<void>;
}

/** Called by `addCommands`. */
export function addFileCommands(commands: CommandRegistry, tools: ISyncCommandTools): void {
  const { model, trans, kernelOf, attempt } = tools;
  commands.addCommand(CommandIDs.sync, {
    label: trans.__('Synchronize the Notebook’s Files'),
    caption: trans.__('Bring the notebook’s folder here and on its machine into step now'),
    isEnabled: args => {
      const workspace = model.workspace(kernelOf(args)?.id ?? null);
      return !!workspace && workspace.state !== 'off' && workspace.state !== 'copying';
    },
    describedBy: {
      args: {
        type: 'object',
        properties: {
          kernel: {
            type: 'string',
            description: 'The id of a kernel; that of the current notebook when absent.'
          }
        }
      }
    },
    execute: async args => {
      const workspace = model.workspace(kernelOf(args)?.id ?? null);
      if (workspace) {
        await attempt(trans.__('The files were not copied'), () => model.sync(workspace.id));
      }
    }
  });
}
