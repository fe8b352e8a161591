/** Commands for what is under way, and the way to the settings. */
import { Dialog, showDialog } from '@jupyterlab/apputils';
import { settingsIcon } from '@jupyterlab/ui-components';
import { CommandRegistry } from '@lumino/commands';
import { ReadonlyPartialJSONObject } from '@lumino/coreutils';

import { cancelChoices } from './actions';
import { ICompute, IKernel } from './api';
import { COMPUTE_ARGS, CommandIDs, ICommandTools } from './commands';

/** JupyterLab's own; absent in a page without a settings editor. */
export const SETTING_EDITOR = 'settingeditor:open';

export interface IWaitingTools extends ICommandTools {
  /** The kernel named in a command's arguments, or the current notebook's. */
  kernelOf: (args: ReadonlyPartialJSONObject) => IKernel | undefined;
}

/** Called by `addCommands`. */
export function addWaitingCommands(commands: CommandRegistry, tools: IWaitingTools): void {
  const { model, trans, computeOf, pick, attempt, kernelOf } = tools;
  const kernelArgs = {
    type: 'object',
    properties: {
      kernel: {
        type: 'string',
        description: 'The id of a kernel; that of the current notebook when absent.'
      }
    }
  };

  commands.addCommand(CommandIDs.cancelMove, {
    label: trans.__('Cancel the Move of the Notebook'),
    caption: trans.__('Leave the current notebook where it is; its kernel there goes on'),
    isEnabled: args => {
      const kernel = kernelOf(args);
      return !!kernel && model.moving(kernel.id) !== undefined;
    },
    describedBy: { args: kernelArgs },
    execute: async args => {
      const operation = model.moving(kernelOf(args)?.id ?? '');
      if (operation) {
        await attempt(trans.__('The move was not cancelled'), () => model.cancel(operation.id));
      }
    }
  });

  const isWaitedFor = ({ id }: ICompute): boolean => {
    const operation = model.runningOn(id);
    return !!operation && cancelChoices(operation).includes('wait');
  };

  commands.addCommand(CommandIDs.stopWaiting, {
    label: args => {
      const compute = computeOf(args);
      return compute
        ? trans.__('Stop Waiting for %1', compute.name)
        : trans.__('Stop Waiting for a Machine…');
    },
    caption: trans.__('What Azure has begun goes on there; a machine that starts can be released'),
    isEnabled: args => {
      const compute = computeOf(args);
      return args.compute === undefined
        ? model.computes.some(isWaitedFor)
        : !!compute && isWaitedFor(compute);
    },
    describedBy: { args: COMPUTE_ARGS },
    execute: async args => {
      const compute = await pick(args, trans.__('Stop waiting for'), isWaitedFor);
      const operation = compute && model.runningOn(compute.id);
      if (!compute || !operation) {
        return;
      }
      const canRelease = cancelChoices(operation).includes('release');
      const release = canRelease ? await askToRelease(compute) : false;
      if (release !== null) {
        await attempt(trans.__('%1 is still waited for', compute.name), () =>
          model.cancel(operation.id, release)
        );
      }
    }
  });

  /** Whether a machine that starts is turned off again; null: go on waiting. */
  const askToRelease = async ({ name }: ICompute): Promise<boolean | null> => {
    const answer = await showDialog({
      title: trans.__('Stop waiting for %1?', name),
      body: trans.__(
        'Azure goes on starting it, and it is billed from then on, unless it is released.'
      ),
      buttons: [
        Dialog.cancelButton({ label: trans.__('Cancel') }),
        Dialog.okButton({ label: trans.__('Stop Waiting') }),
        Dialog.okButton({ label: trans.__('Stop Waiting and Release') })
      ],
      defaultButton: 2
    });
    if (!answer.button.accept) {
      return null;
    }
    return answer.button.label === trans.__('Stop Waiting and Release');
  };

  /** A kernel that is out of reach: the current notebook's or, of the machine in the arguments, any. */
  const lostKernel = (args: ReadonlyPartialJSONObject): IKernel | undefined => {
    const own = kernelOf(args);
    const others = args.compute === undefined ? [] : model.kernels;
    return [...(own ? [own] : []), ...others].find(
      ({ link, compute }) =>
        link.state === 'reconnecting' &&
        (args.compute === undefined || compute === computeOf(args)?.id)
    );
  };

  commands.addCommand(CommandIDs.reconnect, {
    label: trans.__('Reconnect to the Notebook’s Machine'),
    caption: trans.__('Try now to reach the machine that the current notebook runs on'),
    isEnabled: args => lostKernel(args) !== undefined,
    describedBy: {
      args: {
        ...kernelArgs,
        properties: { ...kernelArgs.properties, compute: COMPUTE_ARGS.properties.compute }
      }
    },
    execute: async args => {
      const kernel = lostKernel(args);
      if (kernel) {
        await attempt(trans.__('It could not be tried again'), () => model.reconnect(kernel.id));
      }
    }
  });

  commands.addCommand(CommandIDs.openSettings, {
    label: args => (args.isPalette ? trans.__('Settings of Compute') : trans.__('Settings')),
    caption: trans.__('Open the settings of Compute'),
    icon: args => (args.isPalette ? undefined : settingsIcon),
    isEnabled: () => commands.hasCommand(SETTING_EDITOR),
    describedBy: { args: { type: 'object', properties: {} } },
    execute: () => commands.execute(SETTING_EDITOR, { query: trans.__('Compute') })
  });
}
