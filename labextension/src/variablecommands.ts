/** Loading and forgetting what was saved of a notebook's variables, from the panel, the palette and the notification. */
import { Dialog, Notification, showDialog } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';

import { IKernel } from './api';
import { CommandIDs, KERNEL_ARG } from './commands';
import { ISyncCommandTools } from './files';
import { Listener } from './listener';
import { FindOpened } from './opened';
import { IComputeModel } from './tokens';
import { savedText } from './variablewords';
import { nameOf } from './words';

/** Whether a kernel runs where variables of its notebook are. */
export function canLoad(kernel: IKernel | undefined): boolean {
  return !!kernel?.saved && kernel.saved.compute === kernel.compute && !kernel.moving_to;
}

/** Called by `addCommands`. */
export function addVariableCommands(commands: CommandRegistry, tools: ISyncCommandTools): void {
  const { model, trans, kernelOf, attempt } = tools;
  const describedBy = { args: { type: 'object', properties: { kernel: KERNEL_ARG } } };
  commands.addCommand(CommandIDs.loadVariables, {
    label: trans.__('Load the Saved Variables'),
    caption: trans.__('Put what was saved when the machine stopped into the notebook’s kernel'),
    isEnabled: args => canLoad(kernelOf(args)),
    describedBy,
    execute: async args => {
      const kernel = kernelOf(args);
      if (kernel && canLoad(kernel)) {
        await attempt(trans.__('The variables were not loaded'), () =>
          model.loadVariables(kernel.id)
        );
      }
    }
  });
  commands.addCommand(CommandIDs.forgetVariables, {
    label: trans.__('Forget the Saved Variables…'),
    caption: trans.__('Remove what was saved of the notebook’s variables'),
    isEnabled: args => !!kernelOf(args)?.saved,
    describedBy,
    execute: async args => {
      const kernel = kernelOf(args);
      if (!kernel?.saved) {
        return;
      }
      const { compute } = kernel.saved;
      const name = nameOf(model.compute(compute), compute, trans);
      const { button } = await showDialog({
        title: trans.__('Forget the saved variables?'),
        body: trans.__('They are removed from the disk of %1 and cannot be loaded any more.', name),
        buttons: [
          Dialog.cancelButton({ label: trans.__('Cancel') }),
          Dialog.warnButton({ label: trans.__('Forget them') })
        ],
        defaultButton: 0
      });
      if (button.accept) {
        await attempt(trans.__('The variables were not forgotten'), () =>
          model.forgetVariables(kernel.id)
        );
      }
    }
  });
}

/**
 * Offers saved variables once a notebook of this page is attached again to the machine that has them.
 *
 * The panel goes on offering them; what could be loaded when the page was opened is the panel's alone to say.
 */
export class SavedNotices extends Listener {
  constructor(private readonly _options: SavedNotices.IOptions) {
    super();
    _options.model.stateChanged.connect(this._update, this);
    this._update();
  }

  private _update(): void {
    const { model, opened } = this._options;
    if (model.status !== 'ready') {
      return;
    }
    const loadable = model.kernels.filter(canLoad);
    for (const kernel of loadable) {
      if (!this._shown.has(kernel.id)) {
        const isNew = this._hasLooked && opened(kernel.id) !== null;
        this._shown.set(kernel.id, isNew ? this._show(kernel) : '');
      }
    }
    for (const [id, notification] of this._shown) {
      if (!loadable.some(kernel => kernel.id === id)) {
        this._shown.delete(id);
        Notification.dismiss(notification);
      }
    }
    this._hasLooked = true;
  }

  private _show({ id, compute, saved }: IKernel): string {
    const { model, commands, trans } = this._options;
    const name = nameOf(model.compute(compute), compute, trans);
    return Notification.emit(saved ? savedText(saved, name, trans) : '', 'info', {
      autoClose: false,
      actions: [
        {
          label: trans.__('Load'),
          displayType: 'accent',
          callback: () => void commands.execute(CommandIDs.loadVariables, { kernel: id })
        }
      ]
    });
  }

  /** The notifications, by kernel; empty where none was shown. */
  private readonly _shown = new Map<string, string>();
  private _hasLooked = false;
}

export namespace SavedNotices {
  export interface IOptions {
    model: Pick<IComputeModel, 'status' | 'kernels' | 'compute' | 'stateChanged'>;
    opened: FindOpened;
    commands: CommandRegistry;
    trans: TranslationBundle;
  }
}
