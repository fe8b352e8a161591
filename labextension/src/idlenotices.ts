/** What a page says by itself of money: a machine that it uses is stopped soon, a budget is nearly spent. */
import { Notification } from '@jupyterlab/apputils';
import { IStateDB } from '@jupyterlab/statedb';
import { TranslationBundle } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';

import { IBudget, ICompute } from './api';
import { CommandIDs } from './commands';
import { canKeep, idleOf, keepLabel } from './idlewords';
import { Listener } from './listener';
import { FindOpened } from './opened';
import { ISettings } from './settings';
import { budgetText, spentBudgets } from './spendwords';
import { IComputeModel } from './tokens';
import { clockText } from './words';

/**
 * One notification for each machine that is stopped soon, in pages that have a notebook on it or had it started.
 *
 * It names the moment and not what is left, so that it need not be said anew every minute. It goes away once the machine is used
 * or kept on; one that a person has closed comes back only after that. How the stop went is the operation's to say.
 */
export class IdleNotices extends Listener {
  constructor(private readonly _options: IdleNotices.IOptions) {
    super();
    const { model, settings } = _options;
    model.stateChanged.connect(this._update, this);
    settings.changed.connect(this._update, this);
    this._update();
  }

  private _update(): void {
    const { model, settings } = this._options;
    if (model.status !== 'ready') {
      return;
    }
    for (const { compute, state } of model.operations) {
      // Operations are forgotten by the server sooner than a machine is stopped.
      if (compute && state !== 'failed' && this._isAskedHere(compute)) {
        this._started.add(compute);
      }
    }
    const soon = settings.idleNotices
      ? model.computes.filter(
          compute =>
            idleOf(compute)?.state === 'stops_soon' &&
            !model.runningOn(compute.id) &&
            this._isConcerned(compute)
        )
      : [];
    for (const [id, { notification }] of this._shown) {
      if (!soon.some(compute => compute.id === id)) {
        this._shown.delete(id);
        Notification.dismiss(notification);
      }
    }
    soon.forEach(compute => this._show(compute));
  }

  private _isAskedHere(compute: string): boolean {
    const { model } = this._options;
    return model.operations.some(
      operation =>
        operation.compute === compute &&
        (operation.kind === 'start' ||
          operation.kind === 'attach' ||
          operation.kind === 'create') &&
        model.isAskedHere(operation.id)
    );
  }

  private _isConcerned({ id }: ICompute): boolean {
    const { model, opened } = this._options;
    return (
      this._started.has(id) ||
      model.kernels.some(kernel => kernel.compute === id && opened(kernel.id) !== null)
    );
  }

  private _show(compute: ICompute): void {
    const { commands, settings, trans } = this._options;
    const message = noticeText(compute, trans);
    const shown = this._shown.get(compute.id);
    if (shown?.message === message) {
      return;
    }
    const command = canKeep(compute.idle) ? CommandIDs.keepOn : CommandIDs.autoStop;
    const options: Notification.IOptions<never> = {
      autoClose: false,
      actions: [
        {
          label:
            command === CommandIDs.keepOn
              ? keepLabel(settings.keepOnHours, trans)
              : trans.__('Auto-stop…'),
          displayType: 'accent',
          callback: () => void commands.execute(command, { compute: compute.id })
        }
      ]
    };
    let notification = shown?.notification ?? '';
    if (!shown) {
      notification = Notification.emit(message, 'warning', options);
    } else if (Notification.manager.has(notification)) {
      Notification.update({ id: notification, message, type: 'warning', ...options });
    }
    this._shown.set(compute.id, { notification, message });
  }

  private readonly _shown = new Map<string, { notification: string; message: string }>();
  /** Machines that this page had started. */
  private readonly _started = new Set<string>();
}

export namespace IdleNotices {
  export interface IOptions {
    model: IComputeModel;
    opened: FindOpened;
    commands: CommandRegistry;
    settings: Pick<ISettings, 'idleNotices' | 'keepOnHours' | 'changed'>;
    trans: TranslationBundle;
  }
}

/** “gpu-t4 stops at 12:25, because nothing runs there. Variables that cannot be saved are lost then.” */
export function noticeText(compute: ICompute, trans: TranslationBundle): string {
  const { idle, name, attached } = compute;
  const at = clockText(idle?.stops_at ?? '');
  const stops = idle?.hard
    ? trans.__('%1 stops at %2, since its time limit ends, whatever runs.', name, at)
    : trans.__('%1 stops at %2, because nothing runs there.', name, at);
  return [stops, lostText(attached.length > 0, !!idle && idle.lost.length > 0, trans)]
    .filter(Boolean)
    .join(' ');
}

function lostText(variables: boolean, files: boolean, trans: TranslationBundle): string {
  if (variables) {
    return files
      ? trans.__('Variables that cannot be saved, and files on its temporary disk, are lost then.')
      : trans.__('Variables that cannot be saved are lost then.');
  }
  return files ? trans.__('Files on its temporary disk are lost then.') : '';
}

const STATE_KEY = 'jupyter-dsvm:told-budgets';

/** Says once of each budget that it is nearly spent, and once that it is: for that day or month, also after a reload. */
export class BudgetNotices extends Listener {
  constructor(private readonly _options: BudgetNotices.IOptions) {
    super();
    _options.model.stateChanged.connect(this._update, this);
    this._update();
  }

  private _update(): void {
    const { spend } = this._options.model;
    const keys = new Map(
      spentBudgets(spend).map(budget => [keyOf(budget, spend?.as_of ?? ''), budget])
    );
    const news = [...keys].filter(([key]) => !this._seen.has(key));
    news.forEach(([key]) => this._seen.add(key));
    if (news.length > 0) {
      void this._tell(news, [...keys.keys()]);
    }
  }

  private async _tell(news: [string, IBudget][], now: string[]): Promise<void> {
    const { model, state, commands, trans } = this._options;
    const saved = await state?.fetch(STATE_KEY).catch(() => undefined);
    const told: unknown[] = Array.isArray(saved) ? saved : [];
    for (const [key, budget] of news) {
      if (!told.includes(key) && !this.isDisposed) {
        const message = budgetText(budget, model.spend?.currency ?? '', trans);
        Notification.emit(message, 'warning', {
          autoClose: false,
          actions: [
            {
              label: trans.__('Open Compute'),
              callback: () => void commands.execute(CommandIDs.open)
            }
          ]
        });
      }
    }
    // Those of other days and months are over.
    await state?.save(STATE_KEY, now).catch(() => undefined);
  }

  /** Told, or being told, by this page. */
  private readonly _seen = new Set<string>();
}

export namespace BudgetNotices {
  export interface IOptions {
    model: Pick<IComputeModel, 'spend' | 'stateChanged'>;
    /** Where what was told is kept; without it, for as long as the page lives. */
    state: IStateDB | null;
    commands: CommandRegistry;
    trans: TranslationBundle;
  }
}

/** What was said, and of when. */
function keyOf({ compute, period, limit, state }: IBudget, asOf: string): string {
  const date = new Date(asOf);
  const when = [date.getFullYear(), date.getMonth(), ...(period === 'day' ? [date.getDate()] : [])];
  return [compute, period, limit, state, ...when].join(' ');
}
