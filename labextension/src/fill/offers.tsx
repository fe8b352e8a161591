import { Dialog, ReactWidget } from '@jupyterlab/apputils';
import { NotebookPanel } from '@jupyterlab/notebook';
import { TranslationBundle } from '@jupyterlab/translation';
import { IDisposable } from '@lumino/disposable';
import * as React from 'react';

import { ICellRun } from '../api';
import { h } from '../jsx';
import { Stray } from './stray';

/** Shows what the function gives, and again at each `update`. */
class Rendered extends ReactWidget {
  constructor(private readonly _render: () => React.ReactElement) {
    super();
  }

  protected render(): React.ReactElement {
    return this._render();
  }
}

/**
 * Outputs that belong into no cell, since the one that was run is gone or has another source now: a line above the notebook, and
 * a dialog in which each can be looked at, put into a cell of its own, or thrown away.
 */
export class Offers implements IDisposable {
  /** `settle`: these outputs need no cell any more. */
  constructor(
    private readonly _panel: NotebookPanel,
    private readonly _trans: TranslationBundle,
    private readonly _settle: (run: ICellRun) => void
  ) {}

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    this._isDisposed = true;
    this._dialog?.dispose();
    this._line?.dispose();
  }

  set(runs: readonly ICellRun[]): void {
    if (this._isDisposed || (runs.length === 0 && this._runs.length === 0)) {
      return;
    }
    this._runs = runs;
    if (!this._line) {
      this._line = new Rendered(() => this._renderLine());
      this._line.addClass('jp-Dsvm-strays');
      this._panel.contentHeader.addWidget(this._line);
    }
    this._line.setHidden(runs.length === 0);
    this._line.update();
    this._list?.update();
    if (runs.length === 0) {
      this._dialog?.reject();
    }
  }

  private async _open(): Promise<void> {
    const trans = this._trans;
    this._list = new Rendered(() => this._renderList());
    this._dialog = new Dialog({
      title: trans.__('Outputs that found no cell'),
      body: this._list,
      buttons: [Dialog.okButton({ label: trans.__('Close') })]
    });
    try {
      await this._dialog.launch();
    } finally {
      this._dialog = this._list = null;
    }
  }

  private _renderLine(): React.ReactElement {
    const trans = this._trans;
    return (
      <>
        <span role="status">{trans.__('Outputs that found no cell (%1)', this._runs.length)}</span>
        <button className="jp-mod-styled" onClick={() => void this._open()}>
          {trans.__('Show…')}
        </button>
      </>
    );
  }

  private _renderList(): React.ReactElement {
    return (
      <ul className="jp-Dsvm-strayList">
        {this._runs.map(run => (
          <Stray
            key={run.msg_id}
            run={run}
            isEdited={this._indexOf(run.cell) >= 0}
            rendermime={this._panel.content.rendermime}
            onInsert={() => this._insert(run)}
            onDismiss={() => this._settle(run)}
            trans={this._trans}
          />
        ))}
      </ul>
    );
  }

  private _insert(run: ICellRun): void {
    const { content, context } = this._panel;
    const own = this._indexOf(run.cell);
    const index = 1 + (own >= 0 ? own : content.activeCellIndex);
    context.model.sharedModel.insertCell(index, {
      cell_type: 'code',
      source: run.source ?? '',
      metadata: { trusted: true },
      outputs: run.outputs,
      execution_count: run.execution_count
    });
    content.activeCellIndex = index;
    this._settle(run);
  }

  private _indexOf(cell: string): number {
    return [...this._panel.context.model.cells].findIndex(({ id }) => id === cell);
  }

  private _runs: readonly ICellRun[] = [];
  private _line: Rendered | null = null;
  private _list: Rendered | null = null;
  private _dialog: Dialog<unknown> | null = null;
  private _isDisposed = false;
}
