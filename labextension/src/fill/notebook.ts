import { ICodeCellModel } from '@jupyterlab/cells';
import { NotebookPanel } from '@jupyterlab/notebook';
import { Kernel, KernelMessage } from '@jupyterlab/services';
import { IDisposable } from '@lumino/disposable';
import { Signal } from '@lumino/signaling';

import { ICellRun } from '../api';
import { RequestError } from '../request';
import { Kept } from './kept';
import { Prompts } from './input';
import { Offers } from './offers';
import { decide, ICellNow, IPageNow, isOver, Verdict } from './plan';
import { Sharing } from './sharing';
import { IFillOptions } from './tokens';
import { Unwanted } from './unwanted';
import { writeOutputs } from './write';

/** Milliseconds from a kernel's message about somebody else's request to asking what has become of the cell. */
const SOON = 150;
/** The same where another page writes it, and only its going matters. */
const LATER = 4000;
/** Until a request that failed is made again, and until pages that were there are looked for once more. */
const AGAIN = 5000;
/** Until pages that share a document know of each other. */
const ACQUAINTED = 1000;
/** In which this page works before others have a turn. */
const TURN = 20;

/** For so long what this page has run in a shared document is newer than what the server says, though it may not be in it yet. */
const UNDER_WAY = 10_000;

const TELLING = new Set<string>([
  'stream',
  'display_data',
  'update_display_data',
  'execute_result',
  'error',
  'clear_output',
  'execute_input',
  'status',
  'input_request'
]);

/**
 * Brings the cells of one notebook that is open up to date with what the server has kept of them, and keeps them so.
 *
 * What is put into a cell is the state that the server has (`GET kernels/{id}/outputs`), never a message: so it does not
 * matter which of them come, come twice or cross the answer. Kernel messages about requests that this page has not sent only
 * say that it is time to ask; those about its own are JupyterLab's, as ever. `plan.ts` has the rule for each cell.
 */
export class NotebookFill implements IDisposable {
  constructor(private readonly _options: IFillOptions) {
    const { panel, settings, trans } = _options;
    const { context, sessionContext } = panel;
    this._panel = panel;
    this._kept = new Kept(_options);
    this._prompts = new Prompts(panel.content);
    this._offers = new Offers(panel, trans, run => this._forget(run.msg_id));
    this._sharing = new Sharing(context.model.sharedModel, () => this._schedule(SOON));
    this._unwanted = new Unwanted(
      context.model,
      cell => this._ran.get(cell)?.id ?? this._kept.runs.get(cell)?.msg_id,
      run => this._forget(run)
    );
    sessionContext.kernelChanged.connect(this._onKernel, this);
    sessionContext.connectionStatusChanged.connect(this._onConnection, this);
    settings.changed.connect(this._onSettings, this);
    panel.disposed.connect(this.dispose, this);
    Promise.all([context.ready, sessionContext.ready]).then(
      () => this._onKernel(),
      () => undefined // there is no kernel to ask about
    );
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    if (!this._isDisposed) {
      this._isDisposed = true;
      clearTimeout(this._timer);
      this._unwanted.dispose();
      this._sharing.dispose();
      this._offers.dispose();
      Signal.clearData(this);
    }
  }

  // What happens

  private _onKernel(): void {
    const kernel = this._panel.sessionContext.session?.kernel ?? null;
    if (this._isDisposed || kernel === this._kernel || !this._panel.context.isReady) {
      return;
    }
    this._kernel?.anyMessage.disconnect(this._onMessage, this);
    this._kernel?.statusChanged.disconnect(this._onStatus, this);
    this._kernel = kernel;
    this._kept.follow(kernel);
    this._begin();
    this._ran.clear();
    this._hadBreak = false;
    if (kernel) {
      kernel.anyMessage.connect(this._onMessage, this);
      kernel.statusChanged.connect(this._onStatus, this);
      this._sharing.follow(kernel.id);
      this._schedule(this._isShared ? ACQUAINTED : 0);
    }
  }

  private _begin(): void {
    this._taken.clear();
    this._verdicts.clear();
    this._offers.set([]);
  }

  private _onSettings(): void {
    this._schedule(SOON);
  }

  private _onConnection(_: unknown, status: Kernel.ConnectionStatus): void {
    if (status === 'connected') {
      this._schedule(this._isShared ? ACQUAINTED : SOON);
    } else {
      this._hadBreak = true;
    }
  }

  private _onStatus(_: unknown, status: Kernel.Status): void {
    if (status === 'restarting' || status === 'autorestarting' || status === 'dead') {
      for (const cell of this._codeCells()) {
        if (this._verdicts.get(cell.id) === 'run') {
          cell.executionState = 'idle';
        }
      }
      this._schedule(SOON);
    }
  }

  private _onMessage(kernel: Kernel.IKernelConnection, args: Kernel.IAnyMessageArgs): void {
    const { header, metadata, parent_header: parent } = args.msg;
    const type = header.msg_type as string;
    if (args.direction === 'send') {
      const { cellId } = metadata as { cellId?: unknown };
      if (type === 'execute_request' && typeof cellId === 'string') {
        this._ran.set(cellId, { id: header.msg_id, at: Date.now(), hasEnded: false });
        this._taken.delete(cellId);
        this._verdicts.delete(cellId);
        this._showOffers();
      }
      return;
    }
    if (!TELLING.has(type) || !('msg_id' in parent)) {
      return;
    }
    const request = parent as KernelMessage.IHeader;
    if (request.session === kernel.clientId) {
      this._onOwn(args.msg, request.msg_id);
    } else if (request.msg_type === 'execute_request' && !this._kept.isUnknown(request.msg_id)) {
      this._schedule(this._left.has(request.msg_id) ? LATER : SOON);
    }
  }

  private _onOwn(message: KernelMessage.IMessage, request: string): void {
    if ((message.header.msg_type as string) === 'update_display_data') {
      // It may be one in a cell that was filled.
      if (this._taken.size > 0) {
        this._schedule(SOON);
      }
    } else if (
      KernelMessage.isStatusMsg(message as KernelMessage.IMessage) &&
      (message.content as { execution_state: string }).execution_state === 'idle'
    ) {
      for (const ran of this._ran.values()) {
        if (ran.id === request) {
          ran.hasEnded = true;
          if (this._isShared && this._hadBreak) {
            this._schedule(ACQUAINTED);
          }
        }
      }
    }
  }

  private _forget(run: string): void {
    const cell = [...this._kept.runs.values()].find(({ msg_id }) => msg_id === run)?.cell;
    if (cell !== undefined) {
      this._kept.runs.delete(cell);
      this._taken.delete(cell);
      this._verdicts.delete(cell);
      this._showOffers();
    }
    void this._kept.forget(run);
  }

  // What the server has

  private _schedule(milliseconds: number): void {
    const due = Date.now() + milliseconds;
    if (this._isDisposed || (this._timer !== undefined && this._due <= due)) {
      return;
    }
    clearTimeout(this._timer);
    this._due = due;
    this._timer = window.setTimeout(() => {
      this._timer = undefined;
      void this._bringUpToDate();
    }, milliseconds);
  }

  private async _bringUpToDate(): Promise<void> {
    if (this._isAsking) {
      this._isLate = true;
      return;
    }
    if (this._isDisposed || !this._kernel || !this._options.settings.fillOutputs) {
      return;
    }
    this._isAsking = true;
    this._isLate = false;
    try {
      await this._kept.read(fresh => this._apply(fresh));
    } catch (reason) {
      if (!(reason instanceof RequestError)) {
        console.warn('jupyter-dsvm: outputs could not be brought up to date', reason);
      } else if (reason.status === null || reason.status >= 500) {
        this._schedule(AGAIN);
      } // else the kernel is not one of ours, or has ended
    }
    this._isAsking = false;
    if (this._isLate) {
      this._schedule(SOON);
    }
  }

  /** These cells' runs have changed, and of others it may be that their page has gone. */
  private async _apply(fresh: ReadonlySet<string>): Promise<void> {
    const cells = new Map(this._codeCells().map(cell => [cell.id, cell]));
    const others = JSON.stringify([this._kept.sessions, this._sharing.isWriter, this._hadBreak]);
    const isChanged = others !== this._others;
    this._others = others;
    let turn = performance.now();
    for (const run of [...this._kept.runs.values()]) {
      const verdict = this._verdicts.get(run.cell);
      if (
        fresh.has(run.cell) ||
        this._unsure.has(run.cell) ||
        (isChanged && verdict !== 'fill' && verdict !== 'run')
      ) {
        this._unsure.delete(run.cell);
        this._settle(run, cells.get(run.cell));
        if (performance.now() - turn > TURN) {
          await new Promise(resolve => setTimeout(resolve));
          turn = performance.now();
        }
      }
    }
    this._showOffers();
    this._claim();
    if (this._unsure.size > 0 || (isChanged && [...this._kept.runs.values()].some(this._isOwned))) {
      this._schedule(AGAIN);
    }
  }

  private _settle(run: ICellRun, cell: ICodeCellModel | undefined): void {
    if (this._isDisposed || this._kept.runs.get(run.cell) !== run || cell?.isDisposed) {
      return; // while others had their turn
    }
    const verdict = decide(run, cell ? now(cell) : null, this._page(run));
    this._verdicts.set(run.cell, verdict);
    if (cell && (verdict === 'fill' || verdict === 'run')) {
      this._write(cell, run, verdict);
    } else if (cell && this._taken.get(run.cell) === run.msg_id) {
      this._prompts.show(cell, [], null);
    }
    if (verdict === 'leave' && !isOver(run)) {
      this._left.add(run.msg_id);
    } else {
      this._left.delete(run.msg_id);
    }
  }

  private _page(run: ICellRun): IPageNow {
    const { context } = this._panel;
    const saved = Date.parse(context.contentsModel?.last_modified ?? '');
    const ran = this._ran.get(run.cell);
    return {
      session: this._kernel?.clientId ?? '',
      sessions: this._kept.sessions,
      hasRun: ran !== undefined && (!this._isShared || Date.now() < ran.at + UNDER_WAY),
      hasTaken: this._taken.get(run.cell) === run.msg_id,
      hadBreak: this._hadBreak && ran?.hasEnded === true,
      isShared: this._isShared,
      isWriter: this._sharing.isWriter,
      saved: this._isShared || isNaN(saved) ? null : saved
    };
  }

  private _write(cell: ICodeCellModel, run: ICellRun, verdict: Verdict): void {
    const { model } = this._panel.context;
    const wasDirty = model.dirty;
    const kept = this._taken.get(run.cell) === run.msg_id ? run.kept : 0;
    this._unwanted.isWriting = true;
    try {
      if (!cell.trusted) {
        // As when it is run. The outputs that are there would be made anew, so there must be none.
        cell.outputs.clear();
        cell.trusted = true;
      }
      writeOutputs(cell.outputs, run.outputs, kept);
      cell.executionCount = verdict === 'fill' ? run.execution_count : null;
      cell.executionState = verdict === 'fill' ? 'idle' : 'running';
    } finally {
      this._unwanted.isWriting = false;
    }
    this._taken.set(run.cell, run.msg_id);
    this._prompts.show(cell, isOver(run) ? [] : run.prompts, this._kernel);
    if (this._isShared) {
      if (verdict === 'fill') {
        this._unsure.add(run.cell); // another page may have done the same
      }
    } else if (!wasDirty && this._isOwned(run)) {
      // Its page saves it; if both did, each would find that the other has changed the file.
      model.dirty = false;
      this._owners.add(run.session);
    }
  }

  /** Who was to save what this page shows, too, has gone. */
  private _claim(): void {
    const gone = [...this._owners].filter(owner => !this._kept.sessions.includes(owner));
    if (gone.length > 0) {
      this._owners.clear();
      this._panel.context.model.dirty = true;
    }
  }

  private _showOffers(): void {
    const { runs } = this._kept;
    this._offers.set([...runs.values()].filter(r => this._verdicts.get(r.cell) === 'offer'));
  }

  /** Whether the page that has run it is there, and is another one. */
  private readonly _isOwned = (run: ICellRun): boolean =>
    run.session !== this._kernel?.clientId && this._kept.sessions.includes(run.session);

  private get _isShared(): boolean {
    return this._panel.context.model.collaborative ?? false;
  }

  private _codeCells(): ICodeCellModel[] {
    const { cells } = this._panel.context.model;
    return [...cells].filter((cell): cell is ICodeCellModel => cell.type === 'code');
  }

  private readonly _panel: NotebookPanel;
  private readonly _kept: Kept;
  private readonly _prompts: Prompts;
  private readonly _offers: Offers;
  private readonly _sharing: Sharing;
  private readonly _unwanted: Unwanted;
  private _kernel: Kernel.IKernelConnection | null = null;
  private _hadBreak = false;
  /** By cell, the last request that this page has sent. */
  private readonly _ran = new Map<string, { id: string; at: number; hasEnded: boolean }>();
  /** By cell, the request whose outputs this page has put there. */
  private readonly _taken = new Map<string, string>();
  private readonly _verdicts = new Map<string, Verdict>();
  /** Requests that go on, in cells that others write. */
  private readonly _left = new Set<string>();
  /** Cells to be looked at once more. */
  private readonly _unsure = new Set<string>();
  /** Sessions of pages that save what this one shows, too. */
  private readonly _owners = new Set<string>();
  private _others = '';
  private _timer: number | undefined;
  private _due = 0;
  private _isAsking = false;
  private _isLate = false;
  private _isDisposed = false;
}

function now(cell: ICodeCellModel): ICellNow {
  return {
    source: cell.sharedModel.getSource(),
    outputs: cell.outputs.toJSON(),
    count: cell.executionCount,
    isRunning: cell.executionState === 'running'
  };
}
