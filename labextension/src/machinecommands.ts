/** Commands for the way into a machine: a terminal there, and what to type for one. */
import { Clipboard, Notification } from '@jupyterlab/apputils';
import { CommandRegistry } from '@lumino/commands';
import { terminalIcon } from '@jupyterlab/ui-components';

import { canEnter } from './actions';
import { COMPUTE_ARGS, CommandIDs, ICommandTools } from './commands';

/** JupyterLab's and Notebook 7's own; absent in a page without terminals. */
export const OPEN_TERMINAL = 'terminal:open';

/** Called by `addCommands`. */
export function addMachineCommands(commands: CommandRegistry, tools: ICommandTools): void {
  const { model, trans, computeOf, pick, attempt } = tools;

  commands.addCommand(CommandIDs.openTerminal, {
    label: args => {
      const compute = computeOf(args);
      if (args.menu) {
        return trans.__('Open Terminal');
      }
      return compute
        ? trans.__('Open Terminal on %1', compute.name)
        : trans.__('Open Terminal on a Machine…');
    },
    caption: trans.__('Open a terminal whose shell runs on the machine'),
    icon: args => (args.isPalette ? undefined : terminalIcon),
    isEnabled: args => {
      const compute = computeOf(args);
      return (
        commands.hasCommand(OPEN_TERMINAL) &&
        (args.compute === undefined
          ? model.computes.some(canEnter)
          : !!compute && canEnter(compute))
      );
    },
    describedBy: { args: COMPUTE_ARGS },
    execute: async args => {
      const compute = await pick(args, trans.__('Open a terminal on'), canEnter);
      if (compute) {
        await attempt(trans.__('No terminal was opened on %1', compute.name), async () => {
          const { name } = await model.openTerminal(compute.id);
          await commands.execute(OPEN_TERMINAL, { name });
        });
      }
    }
  });

  commands.addCommand(CommandIDs.copySSH, {
    label: args => {
      const compute = computeOf(args);
      if (args.menu) {
        return trans.__('Copy SSH Command');
      }
      return compute
        ? trans.__('Copy SSH Command of %1', compute.name)
        : trans.__('Copy SSH Command of a Machine…');
    },
    caption: trans.__('Copy what opens a shell on the machine from a terminal of this server'),
    isEnabled: args => {
      const compute = computeOf(args);
      return args.compute === undefined
        ? model.computes.some(canEnter)
        : !!compute && canEnter(compute);
    },
    describedBy: { args: COMPUTE_ARGS },
    execute: async args => {
      const compute = await pick(args, trans.__('Copy the SSH command of'), canEnter);
      if (compute) {
        await attempt(trans.__('The SSH command of %1 was not copied', compute.name), async () => {
          const { command } = await model.sshCommand(compute.id);
          Clipboard.copyToSystem(command);
          Notification.success(
            trans.__(
              'Copied. Paste it into a terminal of this Jupyter server to be on %1.',
              compute.name
            ),
            { autoClose: 5000 }
          );
        });
      }
    }
  });
}
