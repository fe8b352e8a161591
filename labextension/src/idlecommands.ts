/** Commands for when a machine is stopped by itself: not yet, and when at all. */
import { CommandRegistry } from '@lumino/commands';

import { ICompute } from './api';
import { CommandIDs, COMPUTE_ARGS, ICommandTools } from './commands';
import { canKeep, idleOf, keepLabel } from './idlewords';
import { loadDialogs } from './loaddialogs';
import { ISettings } from './settings';

/** Called by `addCommands`. */
export function addIdleCommands(
  commands: CommandRegistry,
  tools: ICommandTools & { settings: Pick<ISettings, 'keepOnHours'> }
): void {
  const { model, trans, settings, computeOf, pick, attempt } = tools;
  /** Machines that are being kept on: a second click asks for nothing more. */
  const asked = new Set<string>();

  const isKeepable = (compute: ICompute): boolean =>
    canKeep(idleOf(compute)) && !model.runningOn(compute.id);
  const isWatched = (compute: ICompute): boolean => idleOf(compute) !== null;

  commands.addCommand(CommandIDs.keepOn, {
    label: args => {
      const compute = computeOf(args);
      const { keepOnHours } = settings;
      if (args.menu) {
        return keepLabel(keepOnHours, trans);
      }
      return compute
        ? trans.__('Keep %1 on for %2 h', compute.name, keepOnHours)
        : trans.__('Keep a Machine On for %1 h…', keepOnHours);
    },
    caption: trans.__('Have a machine that nobody uses not be stopped for a while; it is billed'),
    isEnabled: args => {
      const compute = computeOf(args);
      return args.compute === undefined
        ? model.computes.some(isKeepable)
        : !!compute && isKeepable(compute);
    },
    describedBy: { args: COMPUTE_ARGS },
    execute: async args => {
      const compute = await pick(args, trans.__('Keep on'), isKeepable);
      if (!compute || asked.has(compute.id)) {
        return;
      }
      asked.add(compute.id);
      await attempt(trans.__('%1 is not kept on', compute.name), () =>
        model.setIdle(compute.id, { keep_seconds: settings.keepOnHours * 3600 })
      );
      asked.delete(compute.id);
    }
  });

  commands.addCommand(CommandIDs.autoStop, {
    label: args => {
      const compute = computeOf(args);
      if (args.menu) {
        return trans.__('Auto-stop…');
      }
      return compute
        ? trans.__('Auto-stop of %1…', compute.name)
        : trans.__('Auto-stop of a Machine…');
    },
    caption: trans.__('Choose when a machine that is on is stopped by itself'),
    isEnabled: args => {
      const compute = computeOf(args);
      return args.compute === undefined
        ? model.computes.some(isWatched)
        : !!compute && isWatched(compute);
    },
    describedBy: { args: COMPUTE_ARGS },
    execute: async args => {
      const compute = await pick(args, trans.__('Auto-stop of'), isWatched);
      if (compute) {
        await attempt(trans.__('Auto-stop of %1', compute.name), async () =>
          (await loadDialogs(trans)).autoStop({ model, compute, trans })
        );
      }
    }
  });
}
