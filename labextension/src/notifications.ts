import { Notification } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';

import { FREE, IOperation } from './api';
import { CommandIDs } from './commands';
import { Listener } from './listener';
import { showTexts } from './texts';
import { IComputeModel } from './tokens';
import { VARIABLES_STEP } from './variablewords';
import {
  currentStep,
  durationText,
  elsewhereText,
  nameOf,
  operationText,
  withPoint
} from './words';

/** JupyterLab cuts a notification there; what is longer goes behind its button “Details”. */
const LONGEST = 140;

/** How long good news stays on screen, in milliseconds; it stays in the notification centre after that. */
const STAYS = 10_000;

/** One notification per operation, updated in place. What had ended before the page was opened gets none. */
export class OperationNotifications extends Listener {
  constructor(
    private readonly _model: IComputeModel,
    private readonly _trans: TranslationBundle,
    /** With them a move that carried variables can be undone. */
    private readonly _commands?: CommandRegistry
  ) {
    super();
    this._model.stateChanged.connect(this._update, this);
    this._update();
  }

  private _update(): void {
    if (this._model.status !== 'ready') {
      return;
    }
    for (const operation of [...this._model.operations].reverse()) {
      if (this._isQuiet(operation)) {
        continue;
      }
      if (this._started || operation.state === 'running') {
        this._show(operation);
      } else {
        const said = `${operation.state}${operation.notice}`;
        this._shown.set(operation.id, { notification: '', said, canUndo: false });
      }
    }
    this._started = true;
    const listed = new Set(this._model.operations.map(operation => operation.id));
    for (const [id, { notification, said }] of this._shown) {
      if (!listed.has(id)) {
        this._shown.delete(id);
        if (said.startsWith('in-progress')) {
          // The server no longer knows it, for one because it was restarted: nothing will ever end it here.
          Notification.dismiss(notification);
        }
      }
    }
  }

  /** Files are copied all the time: only what a person asked for here, or what failed, is worth a word. */
  private _isQuiet({ id, kind, state }: IOperation): boolean {
    return kind === 'sync' && state !== 'failed' && !this._model.isAskedHere(id);
  }

  private _show(operation: IOperation): void {
    const { message, type, details } = describeOperation(operation, this._model, this._trans);
    const shown = this._shown.get(operation.id);
    // The end is said once more where the server has found out something after it.
    const said =
      operation.state === 'running'
        ? `${type}${message}${operation.progress}`
        : `${operation.state}${operation.notice}`;
    const undo = this._undo(operation);
    if (shown?.said === said && shown.canUndo === !!undo) {
      return;
    }
    const options = {
      autoClose: type === 'success' || type === 'info' ? STAYS : (false as const),
      // The manager keeps the old options where an update names none: name them all.
      progress: operation.state === 'running' ? (operation.progress ?? undefined) : undefined,
      actions: [
        ...(undo ? [undo] : []),
        ...(details
          ? [
              {
                label: this._trans.__('Details'),
                callback: () => void this._showDetails(message, details)
              }
            ]
          : []),
        // The other kinds have their button on the machine's card.
        ...(hasNoCard(operation) && operation.state === 'running'
          ? [{ label: this._trans.__('Cancel'), callback: () => this._cancel(operation) }]
          : [])
      ]
    };
    let notification = shown?.notification ?? '';
    const isThere = Notification.manager.has(notification);
    if (isThere) {
      Notification.update({ id: notification, message: shorten(message), type, ...options });
    } else if (!shown || (operation.state !== 'running' && shown.said !== said)) {
      // A person may have closed it while it ran; how it ended is said all the same.
      notification = Notification.emit(shorten(message), type, options);
    }
    this._shown.set(operation.id, { notification, said, canUndo: !!undo });
  }

  /** The way back with the variables as they are then: for as long as the notebook is where this move has brought it. */
  private _undo(operation: IOperation): Notification.IAction | null {
    const { id, compute, state } = operation;
    const kernel = this._model.kernel(operation.kernel);
    if (!isMove(operation) || !kernel) {
      return null;
    }
    if (state === 'running' && kernel.compute !== compute) {
      this._from.set(id, kernel.compute);
    }
    const from = this._from.get(id);
    if (!from || state !== 'done' || !hasCarried(operation) || kernel.compute !== compute) {
      return null;
    }
    const command = from === FREE ? CommandIDs.detach : CommandIDs.attach;
    const args = { kernel: kernel.id, compute: from, carry: true };
    return this._commands?.isEnabled(command, args)
      ? {
          label: this._trans.__('Undo'),
          caption: this._trans.__(
            'Move back to %1, with the variables as they are then',
            nameOf(this._model.compute(from), from, this._trans)
          ),
          callback: () => void this._commands?.execute(command, args)
        }
      : null;
  }

  private _cancel({ id }: IOperation): void {
    // It may have ended in between, and then its end is shown.
    this._model.cancel(id).catch(() => undefined);
  }

  private async _showDetails(title: string, details: string[]): Promise<void> {
    await showTexts(shorten(title), details);
  }

  private readonly _shown = new Map<
    string,
    { notification: string; said: string; canUndo: boolean }
  >();
  /** Where a move began, by its id. */
  private readonly _from = new Map<string, string>();
  private _started = false;
}

function shorten(text: string): string {
  return text.length <= LONGEST ? text : `${text.slice(0, LONGEST - 1)}…`;
}

/** The first sentence of a move's notice, where the headline has just said that. */
const WHERE = /^The notebook runs on .+?\. (?=\S)/;

function isMove({ kind }: IOperation): boolean {
  return kind === 'attach' || kind === 'detach';
}

function hasCarried({ steps }: IOperation): boolean {
  return steps.some(({ name, state }) => name === VARIABLES_STEP && state === 'done');
}

/** What no machine's card shows: it is followed and ended from its notification. */
function hasNoCard({ kind }: IOperation): boolean {
  return kind === 'install' || kind === 'sync' || kind === 'load';
}

/** What a notification says, and what did not fit into it. */
export interface IOperationSaid {
  message: string;
  type: Notification.TypeOptions;
  details?: string[];
}

export function describeOperation(
  operation: IOperation,
  model: Pick<IComputeModel, 'compute' | 'kernel' | 'isAskedHere'>,
  trans: TranslationBundle
): IOperationSaid {
  const compute = model.compute(operation.compute);
  const name =
    operation.kind === 'create' && !compute
      ? trans.__('a new machine')
      : nameOf(compute, operation.compute, trans);
  const kernel = model.kernel(operation.kernel);
  const notebook = kernel?.path?.split('/').pop() ?? trans.__('the notebook');
  /** Where the notebook is after a move that did not happen. */
  const stays =
    isMove(operation) && kernel
      ? trans.__(
          'Still on %1. Nothing was lost.',
          nameOf(model.compute(kernel.compute), kernel.compute, trans)
        )
      : '';
  const time = operation.ended ? durationText(operation.started, operation.ended, trans) : '';

  switch (operation.state) {
    case 'running': {
      const doing = {
        attach: trans.__('Moving %1 to %2.', notebook, name),
        detach: trans.__('Moving %1 to %2.', notebook, name),
        start: trans.__('Starting %1.', name),
        stop: trans.__('Stopping %1.', name),
        restart: trans.__('Restarting %1.', name),
        update: trans.__('%1 is being changed.', name),
        resize: trans.__('Changing the size of %1.', name),
        create: trans.__('Creating %1.', name),
        access: trans.__('Setting up access to %1.', name),
        forget: trans.__('Taking the access to %1 away.', name),
        install: trans.__('Installing on %1.', name),
        sync: trans.__('Copying files of %1.', notebook),
        load: trans.__('Loading the saved variables of %1.', notebook)
      }[operation.kind];
      // pip's words, or how many files, where those alone are the news.
      const said = hasNoCard(operation) ? currentStep(operation)?.step.text : undefined;
      const how = operation.elsewhere
        ? elsewhereText(trans)
        : said
          ? withPoint(said)
          : operationText(operation, trans);
      return { message: `${doing} ${how}`, type: 'in-progress' };
    }
    case 'done': {
      const done = {
        attach: trans.__('Moved to %1 in %2.', name, time),
        detach: trans.__('Moved to %1 in %2.', name, time),
        start: trans.__('%1 is on after %2.', name, time),
        stop: trans.__('%1 is off and released after %2.', name, time),
        restart: trans.__('%1 is on again after %2.', name, time),
        update: trans.__('%1 was changed.', name),
        resize: trans.__('%1 has its new size after %2.', name, time),
        create: trans.__('Created %1 in %2.', name, time),
        access: trans.__('Access to %1 is set up.', name),
        forget: trans.__('The access to %1 was taken away.', name),
        install: trans.__('Installed on %1 in %2.', name, time),
        sync: trans.__('The files of %1 are in step.', notebook),
        load: trans.__('The saved variables of %1 are there again.', notebook)
      }[operation.kind];
      const notice = operation.notice ? withPoint(operation.notice) : '';
      if (operation.elsewhere && notice) {
        // Only the notice knows what has become of it: a stop elsewhere need not have released the machine.
        return fitted(notice, [], 'info');
      }
      if (operation.kind === 'stop' && notice && !model.isAskedHere(operation.id)) {
        // Nobody here asked for it: why, and where its notebooks are, is the news. It stays until it is read.
        return sentences(notice, 'warning');
      }
      if (hasNoCard(operation) && notice) {
        return sentences(notice, 'success'); // which says what was installed, copied or loaded
      }
      if (notice && hasCarried(operation)) {
        return sentences(`${done} ${notice.replace(WHERE, '')}`, 'success');
      }
      return fitted(done, notice ? [notice] : [], 'success');
    }
    case 'cancelled': {
      const cancelled = {
        attach: trans.__('The move to %1 was cancelled.', name),
        detach: trans.__('The move to %1 was cancelled.', name),
        start: trans.__('No longer waiting for %1 to start.', name),
        stop: trans.__('No longer waiting for %1 to stop.', name),
        restart: trans.__('No longer waiting for %1 to restart.', name),
        update: trans.__('%1 is not followed any more.', name),
        resize: trans.__('Changing the size of %1 was cancelled.', name),
        create: trans.__('Creating %1 was cancelled.', name),
        access: trans.__('Setting up access to %1 was cancelled.', name),
        forget: trans.__('Taking the access to %1 away was cancelled.', name),
        install: trans.__('Installing on %1 was cancelled.', name),
        sync: trans.__('Copying files of %1 was cancelled.', notebook),
        load: trans.__('Loading the saved variables of %1 was cancelled.', notebook)
      }[operation.kind];
      const { error } = operation;
      const more =
        error && !isMove(operation) ? [withPoint(error.message), error.advice].filter(Boolean) : [];
      return fitted([cancelled, stays].filter(Boolean).join(' '), more, 'info');
    }
    case 'failed': {
      const failed = {
        attach: trans.__('Could not move to %1.', name),
        detach: trans.__('Could not move to %1.', name),
        start: trans.__('Could not start %1.', name),
        stop: trans.__('Could not stop %1.', name),
        restart: trans.__('Could not restart %1.', name),
        update: trans.__('%1 is not followed any more.', name),
        resize: trans.__('Could not change the size of %1.', name),
        create: trans.__('Could not create %1.', name),
        access: trans.__('Could not set up access to %1.', name),
        forget: trans.__('Could not take the access to %1 away.', name),
        install: trans.__('Could not install on %1.', name),
        sync: trans.__('Could not copy the files of %1.', notebook),
        load: trans.__('Could not load the saved variables of %1.', notebook)
      }[operation.kind];
      const { error } = operation;
      const why = error ? [withPoint(error.message), error.advice].filter(Boolean) : [];
      return fitted([failed, stays].filter(Boolean).join(' '), why, 'error');
    }
  }
}

/** The whole text where it fits; otherwise the headline, and the rest as details. */
function fitted(headline: string, rest: string[], type: Notification.TypeOptions): IOperationSaid {
  const all = [headline, ...rest].join(' ');
  return all.length <= LONGEST
    ? { message: all, type }
    : { message: headline, type, details: rest };
}

/** As many of the sentences as fit; all of them as details where that is not all. */
function sentences(text: string, type: Notification.TypeOptions): IOperationSaid {
  const [first, ...rest] = text.split(/(?<=[.!?]) (?=\S)/);
  let message = first;
  for (const sentence of rest) {
    if (`${message} ${sentence}`.length > LONGEST) {
      return { message, type, details: [text] };
    }
    message = `${message} ${sentence}`;
  }
  return { message, type };
}
