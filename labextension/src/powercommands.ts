/**
 * The commands that change a machine as a whole: start, stop, restart, resize. What ends kernels says so first, with the names of
 * their notebooks.
 */
import { Dialog, showDialog } from '@jupyterlab/apputils';
import { CommandRegistry } from '@lumino/commands';

import { canChange, canResize } from './actions';
import { ComputeAction, ICompute } from './api';
import { CommandIDs, COMPUTE_ARGS, ICommandTools } from './commands';
import { loadDialogs } from './loaddialogs';
import { ISettings } from './settings';

/** Of those that are lost: more are read by nobody. */
const MOST_FILES = 8;

/** For the machine to say what is lost; a second or less, mostly. */
const LOSS_MS = 4000;

const ASK_ARG = {
  type: 'boolean',
  description: 'Whether to ask first also where no notebook runs there.'
} as const;

/** Called by `addCommands`. */
export function addPowerCommands(
  commands: CommandRegistry,
  tools: ICommandTools & { settings: Pick<ISettings, 'confirmStop' | 'confirmRestart'> }
): void {
  const { model, trans, settings, computeOf, pick, attempt } = tools;

  /** A sentence about the files that go with its temporary disk; empty where nobody knows of any. */
  const lostWith = async (compute: ICompute): Promise<string> => {
    const known = compute.idle?.lost ?? [];
    const before =
      known.length > 0
        ? trans.__('Lost with its temporary disk: %1.', known.slice(0, MOST_FILES).join(', '))
        : '';
    if (compute.power_state !== 'running') {
      return before;
    }
    let timer: number | undefined;
    try {
      const late = new Promise<never>((_, fail) => {
        timer = window.setTimeout(fail, LOSS_MS);
      });
      const loss = await Promise.race([model.stopLoss(compute.id), late]);
      return loss.known ? loss.text : before;
    } catch {
      return before; // whoever stops a machine is not to be held up by it
    } finally {
      window.clearTimeout(timer);
    }
  };

  /** Stopping or restarting ends the kernels there: say which notebooks lose their variables. `ask`: also where none does. */
  const confirmed = async (
    action: ComputeAction,
    compute: ICompute,
    ask: boolean
  ): Promise<boolean> => {
    const wanted = action === 'stop' ? settings.confirmStop : settings.confirmRestart;
    const temporary = action === 'stop' ? await lostWith(compute) : '';
    const endsNothing = compute.attached.length === 0 && !temporary;
    if (action === 'start' || (endsNothing && !ask && !wanted)) {
      return true;
    }
    const label = action === 'stop' ? trans.__('Stop') : trans.__('Restart');
    const { attached } = compute;
    const notebooks =
      attached.length === 0
        ? trans.__('No notebook of yours runs there. Its disk and what is on it stay.')
        : action === 'stop'
          ? trans._n(
              '%2 runs there. Its variables will be lost, and it goes back to the free tier; the file and its outputs stay.',
              'These notebooks run there: %2. Their variables will be lost, and they go back to the free tier; the files and their outputs stay.',
              attached.length,
              attached.join(', ')
            )
          : trans._n(
              '%2 runs there. Its variables will be lost; the file and its outputs stay.',
              'These notebooks run there: %2. Their variables will be lost; the files and their outputs stay.',
              attached.length,
              attached.join(', ')
            );
    const files =
      action === 'stop' && model.workspaces.some(w => w.compute === compute.id && w.state !== 'off')
        ? trans.__('Files that have changed there come back first.')
        : '';
    const answer = await showDialog({
      title: trans.__('%1 %2?', label, compute.name),
      body: [notebooks, files, temporary].filter(Boolean).join(' '),
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
        await attempt(trans.__('Resize %1', compute.name), async () =>
          (await loadDialogs(trans)).resize({
            model,
            compute,
            trans,
            withoutGpu: !!args.withoutGpu
          })
        );
      }
    }
  });
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
